// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/internal/guard"
	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/keep"
	"thaw.dev/thaw/read/loader"
	"thaw.dev/thaw/read/tier/l1"
	"thaw.dev/thaw/read/tier/l2"
	"thaw.dev/thaw/read/workingset"
	"thaw.dev/thaw/store/bucket"
	"thaw.dev/thaw/tenant/keys"
)

// readDir is what the processes of the read path share.
func readDir(data string) string { return filepath.Join(data, "run", "read") }

// loaderCmd is the process behind the mounts; thaw serve starts it, and a
// successor when it dies.
type loaderCmd struct {
	dataFlag
	originFlags
	logFlags
	L1Disk   int64  `name:"l1-disk" help:"Disk for cached chunks, in MB."`
	L1Memory int64  `name:"l1-memory" help:"Memory for cached chunks, in MB."`
	L2       string `name:"l2" help:"The zone's memcached servers."`
}

// Run serves reads until the server is gone.
func (c *loaderCmd) Run(ctx context.Context, std streams) error {
	log := c.logger(std.err)
	ctx, stop := childSignals(ctx, std)
	defer stop()
	role := guard.Loader
	if bucket.IsURL(c.Origin) {
		role = role.Executing() // credentials may come from a program
	}
	confine(role, log)
	origin, stats, err := c.openReader(ctx, c.Data)
	if err != nil {
		return err
	}
	local, err := keys.OpenLocal(filepath.Join(c.Data, "keys"))
	if err != nil {
		return errors.Join(err, origin.Close())
	}
	zone, closeZone, err := openZone(ctx, c.L2, log)
	if err != nil {
		return errors.Join(err, origin.Close())
	}
	objects, forget := thaw.Objects(origin), func() {}
	if bucket.IsURL(c.Origin) {
		kept, err := keep.Open(origin, keep.Options{Dir: filepath.Join(c.Data, "kept"), Sort: sortOfObject, Log: log})
		if err != nil {
			return errors.Join(err, closeZone(), origin.Close())
		}
		defer kept.Close()
		objects, forget = kept, kept.Drop
	}
	err = loader.Run(ctx, loader.Config{
		RunDir: readDir(c.Data), Origin: origin, Objects: objects, Forget: forget, Keys: local, Log: log, L2: zone,
		OriginStats: stats, Fetches: c.OriginConcurrency - c.ahead(), Ahead: c.ahead(),
		L1: l1.Options{Dir: filepath.Join(c.Data, "l1"), DiskBytes: c.L1Disk << 20, MemoryBytes: c.L1Memory << 20},
	})
	return errors.Join(err, closeZone(), origin.Close())
}

// sortOfObject says which objects of a bucket are kept on the worker: what a
// start asks for beside chunks.
func sortOfObject(key string) keep.Sort {
	switch {
	case strings.HasPrefix(key, manifest.KeyPrefix):
		return keep.Fixed
	case strings.HasPrefix(key, workingset.KeyPrefix):
		return keep.Replaced
	}
	return keep.Never // packs are chunks, and L1 has those
}

// openZone opens the zone's cache and follows its servers; nil where servers is
// empty.
func openZone(ctx context.Context, servers string, log *slog.Logger) (zone *l2.L2, closeZone func() error, err error) {
	if servers == "" {
		return nil, func() error { return nil }, nil
	}
	found, err := l2.ParseDiscovery(servers)
	if err != nil {
		return nil, nil, err
	}
	zone, err = l2.New(l2.Options{Log: log})
	if err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { zone.Follow(ctx, found) })
	return zone, func() error {
		stop()
		following.Wait()
		return zone.Close()
	}, nil
}

// holderCmd is the process that keeps the mounts alive while loaders come and
// go.
type holderCmd struct {
	dataFlag
	logFlags
	Adopt bool `help:"Take the mount over from the loader."`
}

// Run holds the mount until the server is gone.
func (c *holderCmd) Run(ctx context.Context, std streams) error {
	ctx, stop := childSignals(ctx, std)
	defer stop()
	log := c.logger(std.err)
	confine(guard.Holder, log)
	return holder.Run(ctx, holder.Config{RunDir: readDir(c.Data), Adopt: c.Adopt, Log: log})
}

// confine leaves this process the rights that its role uses. One that has more
// works as well, so that the operator is told and not refused.
func confine(role guard.Role, log *slog.Logger) {
	if err := role.Confine(); err != nil {
		log.Warn("this process has more rights than it uses", "err", err)
	}
}

// startLoader starts both as children of the server.
func (n *node) startLoader(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if n.cmd.L2 != "" { // a mistake should end the server, not each loader
		if _, err := l2.ParseDiscovery(n.cmd.L2); err != nil {
			return thaw.Wrap("--l2", err)
		}
	}
	n.loader, err = loader.Start(ctx, loader.ClientConfig{
		RunDir: readDir(n.cmd.Data), Output: n.childOutput(),
		Holder: append([]string{self, "holder", "--data", n.cmd.Data}, n.cmd.args()...),
		Loader: append([]string{self, "loader", "--data", n.cmd.Data, "--l1-disk", strconv.FormatInt(n.cmd.L1Disk, 10), "--l1-memory", strconv.FormatInt(n.cmd.L1Memory, 10),
			"--origin=" + n.cmd.Origin, "--origin-concurrency", strconv.Itoa(n.cmd.OriginConcurrency), "--l2=" + n.cmd.L2}, n.cmd.args()...),
		Log: n.log,
	})
	if err != nil {
		return err
	}
	n.onClose(n.loader.Close)
	return nil
}
