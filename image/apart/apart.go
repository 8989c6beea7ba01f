// SPDX-License-Identifier: Apache-2.0

// Package apart runs [ingest.Run] in a process of its own for each image, so
// that a stranger's layers, which are unpacked there, can take neither the
// server's memory nor its life.
//
// The process gets no more than it needs: the layers as descriptors of files and
// pipes, the secret of the salts, and a temporary folder. What it makes goes back
// through sockets, and this process stores it: chunks are named here, by their
// bytes, and the store, the keys and the network stay here. When it has used up
// its memory it dies, and so it does with this process.
//
// One process is kept ready, so that an image does not wait for one to begin.
package apart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
)

// ErrDied is why an ingest failed whose process died.
var ErrDied = errors.New("the process that makes the image died")

// Config says what an Apart starts.
type Config struct {
	Command     []string  // runs [Serve]
	Output      io.Writer // what the processes print
	MemoryBytes int64     // that one of them may have
	Workers     int       // as ingest.Options.Workers
	Log         *slog.Logger
}

// Apart runs ingests. It is safe for concurrent use.
type Apart struct {
	config Config

	mu     sync.Mutex
	spare  *process
	ended  bool
	spares sync.WaitGroup // that are being started
}

// New returns an Apart, and has its first process started. The caller ends it
// with Close.
func New(c Config) *Apart {
	if c.Workers <= 0 {
		c.Workers = ingest.DefaultWorkers()
	}
	a := &Apart{config: c}
	a.keepSpare()
	return a
}

// Close ends the process that is kept ready. No Run may be running or follow.
func (a *Apart) Close(context.Context) error {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	a.spares.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spare != nil {
		a.spare.kill()
		a.spare = nil
	}
	return nil
}

// keepSpare starts a process for the next image, unless there is one. That one
// can't be started now is told when one is needed.
func (a *Apart) keepSpare() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.spares.Go(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.spare != nil || a.ended {
			return
		}
		if p, err := start(a.config); err == nil {
			a.spare = p
		}
	})
}

// take returns the process that is ready, or a new one.
func (a *Apart) take() (*process, error) {
	a.mu.Lock()
	p := a.spare
	a.spare = nil
	a.mu.Unlock()
	if p != nil && p.alive() {
		return p, nil
	}
	return start(a.config)
}

// Run is [ingest.Run] in a process of its own, with its promises. Workers and
// MetaBytes of o are this package's to choose. The error wraps [ErrDied] where the
// process died.
func (a *Apart) Run(ctx context.Context, layers []ingest.Layer, sourceDigest string, o ingest.Options) (ingest.Result, error) {
	p, err := a.take()
	if err != nil {
		return ingest.Result{}, thaw.Errorf("ingest", thaw.Unavailable, "%w", err)
	}
	defer a.keepSpare()
	s := newSession(ctx, p, layers, o)
	result, err := s.run(newRequest(layers, sourceDigest, o, a.config.MemoryBytes))
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return ingest.Result{}, thaw.Wrap("ingest", cause)
	}
	if errors.Is(err, ErrDied) {
		a.config.Log.Error("an ingest's process died", "tenant", o.Tenant, "digest", sourceDigest, "error", err)
	}
	return result, err
}

// died words the end of a process.
func died(how error, limit int64) error {
	if how == nil {
		how = errors.New("it ended without a result")
	}
	return thaw.Errorf("ingest", thaw.Internal, "%w (%w; it may have %d MiB of memory)", ErrDied, how, limit>>20)
}

// request is what a process is told to do.
type request struct {
	Layers      []layer
	Source      string
	SaltMaster  []byte
	Tenant      thaw.TenantID
	Root        thaw.RootID
	OneDomain   bool
	TempDir     string
	MaxBytes    int64
	HoldBytes   int64
	TempBytes   int64
	MemoryBytes int64
}

// layer is an [ingest.Layer] without what opens it.
type layer struct {
	Digest, DiffID, MediaType string
	Bytes                     int64
	Public, Kept              bool
}

func newRequest(layers []ingest.Layer, source string, o ingest.Options, memory int64) request {
	r := request{Source: source, SaltMaster: o.SaltMaster, Tenant: o.Tenant, Root: o.Root, OneDomain: o.OneDomain, TempDir: o.TempDir,
		MaxBytes: o.MaxBytes, HoldBytes: o.HoldBytes, TempBytes: o.TempBytes, MemoryBytes: memory}
	for _, l := range layers {
		r.Layers = append(r.Layers, layer{l.Digest, l.DiffID, l.MediaType, l.Bytes, l.Public, l.Kept})
	}
	return r
}

// options are what the process ingests with.
func (r request) options(c *caller) ingest.Options {
	return ingest.Options{
		Sink: c, Objects: c, Keys: c, SaltMaster: r.SaltMaster, Tenant: r.Tenant, Root: r.Root, OneDomain: r.OneDomain,
		Workers: c.workers(), TempDir: r.TempDir, MaxBytes: r.MaxBytes, HoldBytes: r.HoldBytes, TempBytes: r.TempBytes,
		MetaBytes: metaBytes(r.MemoryBytes), Progress: c.progress,
	}
}

// otherBytes is the memory of an ingest that is not for names: what holds small
// files, the window of a decompressor, buffers, and what the collector has not
// collected yet.
const otherBytes = 384 << 20

// MinMemoryBytes is the least that a process can work with.
const MinMemoryBytes = otherBytes + 128<<20

// metaBytes is how much of a process's memory may be for names.
func metaBytes(memory int64) int64 { return max(memory, MinMemoryBytes) - otherBytes }

func noSuchLayer(i int) error {
	return thaw.Errorf("", thaw.Internal, "there is no layer %d", i)
}

func unexpected(what string, v any) error {
	return thaw.Errorf("ingest", thaw.Internal, "unexpected %s %v", what, fmt.Sprint(v))
}
