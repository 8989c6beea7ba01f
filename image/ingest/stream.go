// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"io"
	"sync"

	"thaw.dev/thaw"
)

const (
	// streamBuffers buffers of streamBytes are under way between the goroutines
	// that inflate, hash and read a layer, so that the three overlap.
	streamBuffers = 8
	streamBytes   = 256 << 10
)

// stream is the uncompressed content of a layer, verified: a Read returns
// io.EOF only after the whole blob and all of its content were what their
// digests say. One goroutine reads it; two more run ahead, one reading and
// inflating the blob, one hashing what comes out of it.
type stream struct {
	layer  Layer
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	free     chan []byte // buffers to fill
	inflated chan []byte // closed by the inflater once blobErr is set
	hashed   chan []byte // closed by the hasher once err is set
	blobErr  error
	err      error

	buf  []byte // being read
	rest []byte // of buf
	size int64  // bytes that came out of the hasher
}

// streamOptions are what an ingest tells all its streams.
type streamOptions struct {
	maxBlob  int64       // bytes of the layer as stored
	maxPlain int64       // bytes uncompressed
	limit    int64       // the image's limit, for the error
	count    func(n int) // is told of bytes of the blob as they are read
}

// openStream opens a layer. The caller closes the stream.
func openStream(ctx context.Context, l Layer, o streamOptions) (*stream, error) {
	raw, err := l.Open(ctx)
	if err != nil {
		return nil, sourceError(l, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{
		layer:    l,
		cancel:   cancel,
		free:     make(chan []byte, streamBuffers),
		inflated: make(chan []byte, streamBuffers),
		hashed:   make(chan []byte, streamBuffers),
	}
	for range streamBuffers {
		s.free <- make([]byte, streamBytes)
	}
	b := &blob{layer: l, raw: raw, hash: newHash(l.Digest), limit: o.maxBlob, count: o.count,
		ended: func() error { return context.Cause(ctx) }}
	var closing sync.Once
	closeRaw := func() { closing.Do(func() { _ = raw.Close() }) } // only read: nothing is lost
	unwatch := context.AfterFunc(ctx, closeRaw)
	s.tasks.Go(func() {
		defer close(s.inflated)
		defer closeRaw()
		defer unwatch()
		s.blobErr = b.inflate(func() ([]byte, error) { return receive(ctx, s.free) },
			func(p []byte) error { return send(ctx, s.inflated, p) })
	})
	s.tasks.Go(func() {
		defer close(s.hashed)
		s.err = s.hash(ctx, o)
	})
	return s, nil
}

func receive(ctx context.Context, from <-chan []byte) ([]byte, error) {
	select {
	case p := <-from:
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func send(ctx context.Context, to chan<- []byte, p []byte) error {
	select {
	case to <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hash passes the inflated bytes on and returns io.EOF if all is as promised.
func (s *stream) hash(ctx context.Context, o streamOptions) error {
	sum := newHash(s.layer.DiffID)
	var size int64
	for p := range s.inflated {
		if size += int64(len(p)); size > o.maxPlain {
			s.cancel()
			return s.layer.tooLarge(o.limit)
		}
		if !s.layer.isPlain() { // else the blob's hash says it all
			sum.Write(p)
		}
		if err := send(ctx, s.hashed, p); err != nil {
			return err
		}
	}
	switch {
	case s.blobErr != nil:
		return s.blobErr
	case !s.layer.isPlain() && !matches(sum, s.layer.DiffID):
		return s.layer.corrupt("its %d uncompressed bytes do not have the digest %s", size, s.layer.DiffID)
	}
	return io.EOF
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.buf != nil {
			s.free <- s.buf[:cap(s.buf)] // never blocks: there are no more buffers than it has room for
			s.buf = nil
		}
		buf, ok := <-s.hashed
		if !ok {
			return 0, s.err
		}
		s.buf, s.rest = buf, buf
		s.size += int64(len(buf))
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// finish reads what the tar's reader left and returns nil if the layer was what
// was promised. It prefers, as reasons go, that the layer was something else
// over failed, what its reader made of it.
func (s *stream) finish(failed error) error {
	if k := thaw.KindOf(failed); failed != nil && k != thaw.Invalid {
		return failed
	}
	_, err := io.Copy(io.Discard, s)
	if err != nil && (failed == nil || thaw.KindOf(err) == thaw.Corrupt || errors.Is(err, context.Canceled)) {
		return err
	}
	return failed
}

// close ends the stream and waits for its goroutines.
func (s *stream) close() {
	s.cancel()
	s.tasks.Wait()
}
