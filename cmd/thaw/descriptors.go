// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"

	"thaw.dev/thaw"
)

// What the server has open: for each sandbox, idle ones and prepared jails
// included, its sockets, pipes, log and /tmp; for each connection itself and a
// blob or a body; those of the admin listener and socket; and the rest of the
// server, with the connections of the processes that make images.
const (
	filesPerSandbox    = 16
	filesPerConnection = 2
	filesElse          = 512
)

// filesNeeded is how many open files the server's bounds may take. Since the
// bounds of connections are among them, strangers leave the worker its own.
func (c *serveCmd) filesNeeded() uint64 {
	return uint64(filesPerSandbox*(max(0, c.Sandboxes)+max(0, c.Pool)) + filesPerConnection*c.Connections + 2*adminConnections + filesElse)
}

// raiseFiles makes room for what the bounds allow: a server that runs out of
// descriptors fails whoever comes, at a moment that nobody chose. Go has raised
// the soft limit to the hard one already.
func (c *serveCmd) raiseFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return thaw.Wrap("serve", err)
	}
	need := c.filesNeeded()
	if limit.Cur >= need {
		return nil
	}
	raised := syscall.Rlimit{Cur: need, Max: max(need, limit.Max)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return thaw.Errorf("serve", thaw.Unavailable, "%d files may be open (RLIMIT_NOFILE), and the limit can't be raised: "+
			"--sandboxes %d and --connections %d need %d; raise it (ulimit -n, LimitNOFILE= of a systemd unit) or lower them: %w",
			limit.Max, c.Sandboxes, c.Connections, need, err)
	}
	return nil
}
