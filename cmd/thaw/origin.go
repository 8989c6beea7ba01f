// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/store/bucket"
)

// originFlags say where the origin is, to the server and to its loader.
type originFlags struct {
	Origin            string `help:"Where chunks and manifests are kept: a folder (default: origin/ below --data), or s3://BUCKET/PREFIX?endpoint=URL&region=NAME, azblob://CONTAINER/PREFIX?account=NAME, gs://BUCKET/PREFIX; credentials come from the environment (docs/origin.md)." placeholder:"URL"`
	OriginConcurrency int    `help:"Requests to the origin under way at a time, in each of the two processes that make some: the server (writes) and the loader (reads; a fifth is for fetching ahead)." default:"80" placeholder:"N"`
}

// Validate checks the flags when the command line is parsed.
func (f originFlags) Validate() error {
	if f.OriginConcurrency < 2 {
		return errors.New("--origin-concurrency must be at least 2")
	}
	return nil
}

// ahead is the share of the loader's requests that fetch ahead.
func (f originFlags) ahead() int { return max(1, f.OriginConcurrency/5) }

// location is the folder or the URL.
func (f originFlags) location(data string) string {
	if f.Origin == "" {
		return filepath.Join(data, "origin")
	}
	return f.Origin
}

// anchor makes a folder's path independent of the working directory, which may
// go away, and is not that of the processes that are started.
func (f *originFlags) anchor() error {
	if f.Origin == "" || bucket.IsURL(f.Origin) {
		return nil
	}
	path, err := filepath.Abs(f.Origin)
	f.Origin = path
	return thaw.Wrap("--origin", err)
}

func (f originFlags) openBucket(ctx context.Context) (*bucket.Bucket, error) {
	return bucket.Open(ctx, f.Origin, bucket.Options{Concurrency: f.OriginConcurrency})
}

// originReader is the origin as the read path uses it.
type originReader interface {
	thaw.ChunkSource
	thaw.Objects
	io.Closer
}

// openReader opens the origin beside its owner, and says how to tell what has
// been asked of it; nil for a folder, of which there is nothing to tell.
func (f originFlags) openReader(ctx context.Context, data string) (originReader, func() any, error) {
	if !bucket.IsURL(f.Origin) {
		dir, err := store.OpenShared(f.location(data))
		return dir, nil, err
	}
	b, err := f.openBucket(ctx)
	if err != nil {
		return nil, nil, err
	}
	return b, func() any { return b.Stats() }, nil
}

// origin is the origin as the server uses it.
type origin interface {
	originReader
	thaw.ChunkSink
}

// openOrigin opens a folder, or a bucket, of which it is not known yet whether
// it can be reached: a server that is started during an outage serves what it
// has in its caches.
func (n *node) openOrigin(ctx context.Context) error {
	if !bucket.IsURL(n.cmd.Origin) {
		dir, err := store.OpenDir(n.cmd.location(n.cmd.Data))
		if err != nil {
			return err
		}
		n.origin = dir
	} else {
		b, err := n.cmd.openBucket(ctx)
		if err != nil {
			return err
		}
		n.origin, n.bucket.Bucket = b, b
		n.bucket.state = thaw.Errorf("origin", thaw.Unavailable, "%s was not reached yet", b.Where())
	}
	n.onClose(func(context.Context) error { return n.origin.Close() })
	return nil
}

// bucketOrigin is the origin where it is a bucket, and whether it has been
// reached since the start.
type bucketOrigin struct {
	*bucket.Bucket // nil where the origin is a folder

	mu    sync.Mutex
	state error // why it is not ready; nil once it was reached
}

// ready returns why the server is not ready for the origin's sake. A bucket
// that was reached once is not asked again: in an outage every node would say
// at the same moment that it is not ready, although each can serve what it has
// cached.
func (o *bucketOrigin) ready() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

func (o *bucketOrigin) set(state error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state = state
}

// The pauses between two looks at an origin that can't be reached.
const (
	originRetry    = time.Second
	originRetryMax = time.Minute
)

// await checks the bucket until it is as it must be, and tells each other
// reason why it is not.
func (o *bucketOrigin) await(ctx context.Context, tell func(error)) error {
	last := ""
	for wait := originRetry; ; wait = min(2*wait, originRetryMax) {
		err := o.Check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return thaw.Wrap("wait for the origin", ctx.Err())
		}
		if err.Error() != last {
			tell(err)
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return thaw.Wrap("wait for the origin", ctx.Err())
		case <-time.After(wait):
		}
	}
}

// watchOrigin makes the server ready once the bucket is reached. A bucket that
// holds what this program can't read ends the server.
func (n *node) watchOrigin(ctx context.Context) error {
	if n.bucket.Bucket == nil {
		return nil
	}
	var fatal error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := n.bucket.await(ctx, func(err error) {
		n.bucket.set(err)
		if thaw.KindOf(err) == thaw.Invalid {
			fatal = err
			cancel()
			return
		}
		n.log.Error("not ready", "error", err)
	})
	if err != nil {
		return fatal // nil where the server is ending
	}
	n.bucket.set(nil)
	n.log.Info("origin reached", "origin", n.bucket.Where())
	return nil
}

// bucketWorkers are the chunks that an ingest seals and puts at a time where the
// origin is a bucket: their goroutines wait for it most of the time. Each may hold
// some 800 KiB.
const bucketWorkers = 32

// ingestWorkers is ingest.Options.Workers.
func (n *node) ingestWorkers() int {
	if n.bucket.Bucket == nil {
		return 0 // the default: a folder keeps a worker busy
	}
	return min(bucketWorkers, n.cmd.OriginConcurrency)
}

// outlast runs what writes to the origin, again and again while the origin can't be
// reached, or the host is short of something: that is nothing the caller could
// repair, so the caller waits.
func (o *bucketOrigin) outlast(ctx context.Context, tell func(error), run func() error) error {
	for wait := originRetry; ; wait = min(2*wait, originRetryMax) {
		err := run()
		outage := o.Bucket != nil && bucket.IsOutage(err)
		if !outage && !thaw.IsShortage(err) {
			return err
		}
		tell(err)
		// A bucket may be reached and refuse to be written.
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
		if !outage {
			continue
		}
		if err := o.await(ctx, tell); err != nil {
			return err
		}
	}
}
