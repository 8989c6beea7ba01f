// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	thaw "thaw.dev/thaw"
)

const (
	// maxSetbacks is how often in a row a stream may break without a byte of
	// progress before it is given up.
	maxSetbacks = 5

	// firstPause is how long the first setback is waited out; each further
	// one doubles it: 0.2 to 3.2 s, 6.2 s in all.
	firstPause = 200 * time.Millisecond

	// silence is how long a connection may bring nothing before it counts as
	// broken.
	silence = 60 * time.Second

	// slowTime and slowBytes are the lowest rate at which a registry is waited for:
	// what it sends within that time of waiting. It is about a quarter of what a line
	// of 2 Mbit/s carries. Who sends less would hold for days what others need too.
	slowTime  = 60 * time.Second
	slowBytes = 4 << 20
)

// errSilent is why a connection was dropped.
var errSilent = errors.New("the registry sent nothing for a minute")

// errSlow is why a download was given up.
var errSlow = thaw.Errorf(op, thaw.Unavailable, "the registry sends less than %d KiB a second", slowBytes>>10/int(slowTime/time.Second))

// openAt opens what is streamed at an offset.
type openAt func(ctx context.Context, offset int64) (io.ReadCloser, error)

// stream reads something of a known size from a network, and opens it again
// where it broke off. Close may be called while Read runs and ends it.
type stream struct {
	ctx    context.Context //nolint:containedctx // of all connections: ended by Close, which is its owner
	cancel context.CancelFunc
	open   openAt
	size   int64

	mu       sync.Mutex // held by whoever reads, and by Close after it ended ctx
	offset   int64
	setbacks int
	conn     io.ReadCloser      // nil before the first and after a broken one
	drop     context.CancelFunc // ends conn
	quiet    *time.Timer        // runs while conn is waited for, and drops it
	waited   time.Duration      // for conn, since the rate was last looked at
	came     int64              // bytes since then
}

// openStream makes the first connection, so that what is not there is told at
// once, and not retried.
func openStream(ctx context.Context, size int64, open openAt) (*stream, error) {
	s := &stream{open: open, size: size}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if err := s.connect(); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

func (s *stream) connect() error {
	ctx, drop := context.WithCancel(s.ctx)
	quiet := time.AfterFunc(silence, drop)
	conn, err := s.open(ctx, s.offset)
	inTime := quiet.Stop()
	if err != nil {
		drop()
		if !inTime {
			return errSilent
		}
		return err
	}
	s.conn, s.drop, s.quiet = conn, drop, quiet
	return nil
}

// disconnect gives up the connection; what its end says does not matter.
func (s *stream) disconnect() {
	if s.conn == nil {
		return
	}
	s.drop()
	_ = s.conn.Close()
	s.conn = nil
}

// Read returns the next bytes, [io.EOF] after size of them, and an error only
// after maxSetbacks.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.offset == s.size {
			return 0, io.EOF
		}
		begun := time.Now()
		n, err := s.try(p)
		if n == 0 && err != nil {
			if err := s.setback(err); err != nil {
				return 0, err
			}
		}
		if err := s.slow(n, time.Since(begun)); err != nil {
			s.disconnect()
			return 0, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// try reads from the connection, and makes one if there is none.
func (s *stream) try(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if s.conn == nil {
		if err := s.connect(); err != nil {
			return 0, err
		}
	}
	return s.readConn(p)
}

func (s *stream) readConn(p []byte) (int, error) {
	s.quiet.Reset(silence)
	n, err := s.conn.Read(p[:min(int64(len(p)), s.size-s.offset)])
	if !s.quiet.Stop() && err != nil {
		err = errSilent
	}
	if n > 0 {
		s.offset += int64(n)
		s.setbacks = 0
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// slow counts what came in how long a wait, for connections too, and returns an
// error once that is less than the lowest rate.
func (s *stream) slow(n int, waited time.Duration) error {
	s.came += int64(n)
	if s.waited += waited; s.waited < slowTime {
		return nil
	}
	enough := s.came >= slowBytes
	s.waited, s.came = 0, 0
	if !enough {
		return errSlow
	}
	return nil
}

// setback waits for another try, or says why there is none.
func (s *stream) setback(cause error) error {
	s.disconnect()
	if err := s.ctx.Err(); err != nil {
		return thaw.Wrap(op, err)
	}
	switch kind := thaw.KindOf(cause); {
	case kind == thaw.NotFound || kind == thaw.Denied || kind == thaw.Invalid || kind == thaw.Corrupt:
		return cause // the registry has answered
	case s.setbacks == maxSetbacks:
		return thaw.Errorf(op, thaw.Unavailable, "the download broke off %d times at byte %d of %d: %w", s.setbacks+1, s.offset, s.size, cause)
	}
	pause := time.NewTimer(firstPause << s.setbacks)
	defer pause.Stop()
	s.setbacks++
	select {
	case <-pause.C:
		return nil
	case <-s.ctx.Done():
		return thaw.Wrap(op, s.ctx.Err())
	}
}

// Close ends the stream; a Read that runs returns.
func (s *stream) Close() error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disconnect()
	return nil
}
