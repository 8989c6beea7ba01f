// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"

	"thaw.dev/thaw"
)

// What the server has open: for each sandbox, idle ones and prepared jails
// included, its sockets, pipes, log and /tmp; a connection for each invocation
// that waits; and the rest of the server.
const (
	filesPerSandbox = 16
	filesElse       = 256
)

// filesNeeded is how many open files the server's bounds may take.
func (c *serveCmd) filesNeeded() uint64 {
	return uint64(filesPerSandbox*(max(0, c.Sandboxes)+max(0, c.Pool)) + max(0, c.Queue) + filesElse)
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
			"--sandboxes %d and --queue %d need %d; raise it (ulimit -n, LimitNOFILE= of a systemd unit) or lower them: %w",
			limit.Max, c.Sandboxes, c.Queue, need, err)
	}
	return nil
}
