// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/apart"
	"thaw.dev/thaw/internal/guard"
)

// ingestCmd is the process that makes one image; thaw serve starts one for each.
// What it needs of the server it is given by the server; the flag tells people
// whose it is.
type ingestCmd struct {
	dataFlag
	logFlags
}

// Run makes an image for the server.
func (c *ingestCmd) Run(ctx context.Context, std streams) error {
	ctx, stop := childSignals(context.WithoutCancel(ctx), std)
	defer stop()
	log := c.logger(std.err)
	return apart.Serve(ctx, func() { confine(guard.Ingest, log) })
}

// startIngest has the first of these processes started.
func (n *node) startIngest() (*apart.Apart, error) {
	if n.cmd.PrepareMB < apart.MinMemoryBytes>>20 {
		return nil, thaw.Errorf("serve", thaw.Invalid, "--prepare-memory %d: an image can't be made with less than %d MB", n.cmd.PrepareMB, apart.MinMemoryBytes>>20)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return apart.New(apart.Config{
		Command: append([]string{self, "ingest", "--data", n.cmd.Data}, n.cmd.args()...), Output: n.childOutput(), MemoryBytes: n.cmd.PrepareMB << 20, Workers: n.ingestWorkers(), Log: n.log,
	}), nil
}

// childOutput is where the server's processes print.
func (n *node) childOutput() io.Writer {
	if n.cmd.JSONLog { // what the Go runtime prints when a process crashes is none
		return newJSONLines(os.Stderr)
	}
	return os.Stderr
}
