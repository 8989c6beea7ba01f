// SPDX-License-Identifier: Apache-2.0

// Package loader is the process behind the mounts, and the client by which the
// server uses it. The process ([Run]) serves the FUSE files of the images from
// the tiers. It may die at any moment: the holder (package holder) keeps the
// kernel's end of the mount, the [Client] starts a successor, and the successor
// knows from the run directory which images its predecessor served.
//
// Below the run directory:
//
//	files/IMAGE    the FUSE mount, a file for each open image
//	mnt/IMAGE-N    the image mounted from it
//	mnt/open/IMAGE who owns it, a link in memory; made before the file is shown
//	loader.sock    the control socket
//	holder.sock    the holder hands the mount to a loader
//	device.sock    the loader hands it to the successor of a holder
//	loader.pid, holder.pid
//
// The client makes the EROFS mounts, never the loader: a mount reads the file,
// and who serves a file must not wait for it.
package loader

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/mount"
	"thaw.dev/thaw/read/proc"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l1"
	"thaw.dev/thaw/read/tier/l2"
	"thaw.dev/thaw/read/view"
)

// Config is what the loader process works with.
type Config struct {
	RunDir  string           // shared with the client and the holder
	Origin  thaw.ChunkSource // the last tier
	Objects thaw.Objects     // manifests and working sets
	// Forget drops what Objects keeps on this worker; nil where it keeps nothing.
	Forget func()
	Keys   thaw.KeyWrapper
	L1     l1.Options
	L2     *l2.L2 // the zone's cache, which the caller closes; nil without
	// Fetches and Ahead bound what is asked of the origin at a time; see
	// [tier.Options].
	Fetches, Ahead int
	// OriginStats is what Stats tells of the origin, as JSON; nil for nothing.
	OriginStats func() any
	PlainBytes  int64        // bound of the opened chunks; 0 means view.DefaultPlainBytes
	Log         *slog.Logger // nil means slog.Default
}

// workBytes is what the loader needs beside its caches, at the height of a burst
// of starts: chunks on their way, answers, the runtime itself. With half of it
// the collector and what gives memory back to the kernel took so much more that a
// sequential read (bench/seq) was a quarter slower.
const workBytes = 128 << 20

// writeAfter lets most starts be over before what they have fetched is written to
// the worker's own cache.
const writeAfter = 500 * time.Millisecond

func socketPath(runDir string) string { return filepath.Join(runDir, "loader.sock") }
func pidFile(runDir string) string    { return filepath.Join(runDir, "loader.pid") }

// Run serves the mount until ctx ends, the parent is gone (see proc.Lifeline)
// or the mount is. What is in flight then stays unanswered, for a successor.
func Run(ctx context.Context, c Config) error {
	const op = "loader"
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Forget == nil {
		c.Forget = func() {}
	}
	if c.PlainBytes == 0 {
		c.PlainBytes = view.DefaultPlainBytes
	}
	heap := cmp.Or(c.L1.MemoryBytes, l1.DefaultMemoryBytes) + c.PlainBytes + workBytes
	hugePages(int(min(heap, maxHugeBytes)))
	debug.SetMemoryLimit(heap)
	debug.SetGCPercent(-1) // see collect
	c.L1.Log, c.L1.WriteAfter = c.Log, writeAfter
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := proc.Lifeline()
	go func() { // ends with Run
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil { // somebody may have removed it
		return thaw.Wrap(op, err)
	}
	if err := proc.Record(pidFile(c.RunDir)); err != nil {
		c.Log.Warn("if this process outlives the server by a bug, the next server does not find it", "err", err)
	}
	cache, err := l1.Open(c.L1)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	err = serve(ctx, c, cache)
	return thaw.Wrap(op, errors.Join(err, cache.Close()))
}

// server is the loader process.
type server struct {
	config Config
	stack  *tier.Stack
	cache  *l1.L1
	mount  *mount.Server
	images images

	// fetches owns the goroutines that fetch ahead and pack; they end with life.
	fetches errgroup.Group
	packing chan struct{}   // holds a token while a working set is packed
	ended   chan struct{}   // holds a token when a start has ended
	life    context.Context //nolint:containedctx // Run's: work that outlives a request ends with it
}

func serve(ctx context.Context, c Config, cache *l1.L1) error {
	dev, err := holder.Fetch(ctx, holder.Socket(c.RunDir))
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }() // a dup
	s := &server{config: c, cache: cache, packing: make(chan struct{}, 1), ended: make(chan struct{}, 1), life: ctx, mount: mount.NewServer(dev, mount.Options{Log: c.Log})}
	levels := []tier.Level{{Name: l1.MemoryName, Cache: cache.Memory}, {Name: l1.DiskName, Cache: cache.Disk}}
	if c.L2 != nil {
		levels = append(levels, tier.Level{Name: l2.Name, Cache: c.L2, Far: true})
	}
	s.stack = tier.New(tier.Options{Caches: levels, Origin: c.Origin, Fetches: c.Fetches, Ahead: c.Ahead, Log: c.Log})
	opening := view.NewAhead(ctx)
	s.images.options = view.Options{Objects: c.Objects, Chunks: s.stack, Keys: c.Keys, Plain: view.NewPlainCache(c.PlainBytes), Ahead: opening}
	s.images.forget, s.images.pace = c.Forget, newPace()
	s.images.options.Again = s.images.pace.opened
	if err := s.adopt(); err != nil {
		return err
	}
	socket := socketPath(c.RunDir)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	control := &http.Server{Handler: s.handler(), ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serveMount(ctx) })
	group.Go(func() error { return holder.Hand(ctx, holder.LoaderSocket(c.RunDir), dev, c.Log) })
	group.Go(func() error { collect(ctx, s.ended, s.reads, runtime.GC); return nil })
	group.Go(func() error {
		if err := control.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return control.Close()
	})
	err = errors.Join(group.Wait(), s.fetches.Wait())
	opening.Wait()
	return err
}

// openDir has a link for each image that is shown, from its id to its tenant.
// It is in memory, beside the folders to mount on: a start needs no room on the
// disk, which may be full.
func openDir(runDir string) string { return filepath.Join(holder.MountsDir(runDir), "open") }

// serveMount answers the kernel until ctx ends. That the mount is gone is an
// error: the client looks then what is left of it.
func (s *server) serveMount(ctx context.Context) error {
	if err := s.mount.Serve(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	return holder.ErrGone
}

// adopt shows the files that a predecessor showed, before its requests are
// sent again.
func (s *server) adopt() error {
	entries, err := os.ReadDir(openDir(s.config.RunDir))
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(openDir(s.config.RunDir), 0o700)
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id, err := thaw.ParseImageID(entry.Name())
		if err != nil {
			continue // a temporary file
		}
		owner, err := os.Readlink(filepath.Join(openDir(s.config.RunDir), entry.Name()))
		if err != nil {
			return err
		}
		tenant, err := thaw.ParseTenantID(owner)
		if err != nil {
			return err
		}
		if err := s.mount.Add(entry.Name(), s.images.add(tenant, id)); err != nil {
			return err
		}
	}
	return nil
}
