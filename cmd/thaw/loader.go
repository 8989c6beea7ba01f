package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/loader"
	"thaw.dev/thaw/read/tier/l1"
	"thaw.dev/thaw/tenant/keys"
)

// readDir is what the processes of the read path share.
func readDir(data string) string { return filepath.Join(data, "run", "read") }

// loaderCmd is the process behind the mounts; thaw serve starts it, and a
// successor when it dies.
type loaderCmd struct {
	dataFlag
	originFlags
	L1Disk   int64 `name:"l1-disk" help:"Disk for cached chunks, in MB."`
	L1Memory int64 `name:"l1-memory" help:"Memory for cached chunks, in MB."`
}

// Run serves reads until the server is gone.
func (c *loaderCmd) Run(ctx context.Context, std streams) error {
	log := (&serveCmd{}).logger(std)
	origin, stats, err := c.openReader(ctx, c.Data)
	if err != nil {
		return err
	}
	local, err := keys.OpenLocal(filepath.Join(c.Data, "keys"))
	if err != nil {
		return errors.Join(err, origin.Close())
	}
	err = loader.Run(ctx, loader.Config{
		RunDir: readDir(c.Data), Origin: origin, Objects: origin, Keys: local, Log: log,
		OriginStats: stats, Fetches: c.OriginConcurrency - c.ahead(), Ahead: c.ahead(),
		L1: l1.Options{Dir: filepath.Join(c.Data, "l1"), DiskBytes: c.L1Disk << 20, MemoryBytes: c.L1Memory << 20},
	})
	return errors.Join(err, origin.Close())
}

// holderCmd is the process that keeps the mounts alive while loaders come and
// go.
type holderCmd struct{ dataFlag }

// Run holds the mount until the server is gone.
func (c *holderCmd) Run(ctx context.Context, std streams) error {
	return holder.Run(ctx, holder.Config{RunDir: readDir(c.Data), Log: (&serveCmd{}).logger(std)})
}

// startLoader starts both as children of the server.
func (n *node) startLoader(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n.loader, err = loader.Start(ctx, loader.ClientConfig{
		RunDir: readDir(n.cmd.Data),
		Holder: []string{self, "holder", "--data", n.cmd.Data},
		Loader: []string{self, "loader", "--data", n.cmd.Data, "--l1-disk", strconv.FormatInt(n.cmd.L1Disk, 10), "--l1-memory", strconv.FormatInt(n.cmd.L1Memory, 10),
			"--origin=" + n.cmd.Origin, "--origin-concurrency", strconv.Itoa(n.cmd.OriginConcurrency)},
		Log: n.log,
	})
	if err != nil {
		return err
	}
	n.onClose(n.loader.Close)
	return nil
}
