// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/latency"
)

// File is the content of one file of the mount: bytes that never change.
// Implementations are safe for concurrent use.
type File interface {
	// Size returns the length in bytes.
	Size(ctx context.Context) (int64, error)

	// Read returns the n bytes from offset off on, fewer only at the end of the
	// file, as pieces in order; at most [MaxPieces]. Nobody modifies them.
	Read(ctx context.Context, off int64, n int) ([][]byte, error)
}

// Paced is a [File] whose readers may have to wait for their turn. That is no
// part of the time that a request has.
type Paced interface {
	// Pace returns when a read may begin; done is called once, at its end. It fails
	// only where ctx ended first.
	Pace(ctx context.Context, off int64, n int) (done func(), err error)
}

// Options make a [Server]. The zero value of each field means its default.
type Options struct {
	// Timeout bounds a request, from its arrival, or the end of its [Paced.Pace], to
	// the answer; EIO after it.
	// Default [DefaultTimeout].
	Timeout time.Duration
	// Handlers bounds the requests being handled at a time, those that wait for
	// their turn included; more wait in the kernel, in the order of arrival. Default
	// 8192, as many as the kernel sends in the background.
	Handlers int
	Log      *slog.Logger // default slog.Default
}

// DefaultTimeout bounds a request unless Options say otherwise.
const DefaultTimeout = 30 * time.Second

// idleHandlers is how many handlers stay when there is nothing to do: enough
// for a burst of readahead without making goroutines and buffers anew.
const idleHandlers = 8

// Server answers the requests of one mount. Use [NewServer]. It is safe for
// concurrent use.
type Server struct {
	opts     Options
	dev      device
	files    table
	inflight inflight
	stats    serverStats
	errors   logLimit

	reading sync.Mutex // held by the one handler that waits for a request
	in      []byte     // guarded by reading

	mu       sync.Mutex
	idle     int // handlers that wait for a request
	handlers int // all of them
	failed   error
	wg       sync.WaitGroup
}

// NewServer returns a server for the mount whose descriptor, from [Mount] or
// handed over by another process, is dev. The caller closes dev after Serve has
// returned.
func NewServer(dev Descriptor, o Options) *Server {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Handlers == 0 {
		o.Handlers = maxBackground
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Server{opts: o, dev: device{fd: int(dev)}, in: make([]byte, requestBytes)}
}

// Add shows f in the mount under name, at once. A name that is there already,
// or whose node id is another's, is [thaw.Conflict].
func (s *Server) Add(name string, f File) error { return s.files.add(name, f) }

// Remove takes the file of that name out of the mount. Who has it open gets
// errors from then on.
func (s *Server) Remove(name string) { s.files.remove(name) }

// Oldest is the age of the request that is being answered for the longest time;
// zero where there is none.
func (s *Server) Oldest() time.Duration { return s.inflight.oldest() }

// Serve answers requests until ctx ends or the mount is gone, both of which are
// no error, and returns when the last handler has ended. First it makes the
// kernel send again what a predecessor left unanswered; so the files that the
// predecessor had must be added before. Requests unfinished when ctx ends stay
// unanswered, for a successor. Serve may be called once.
func (s *Server) Serve(ctx context.Context) error {
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return thaw.Wrap("serve the mount", err)
	}
	s.dev.stop = stop
	// A handler polls before it reads, so that it can be stopped. The flag is
	// shared with the dups of the descriptor, nobody else of whom reads.
	if err := unix.SetNonblock(s.dev.fd, true); err != nil {
		_ = unix.Close(stop)
		return thaw.Wrap("serve the mount", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	woken := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(woken)
		_, _ = unix.Write(stop, order.AppendUint64(nil, 1))
	})
	if err := s.resend(); err != nil {
		s.fail(err)
	} else {
		s.spawn(ctx)
		s.wg.Wait()
		s.inflight.watchers.Wait()
	}
	cancel()
	<-woken
	_ = unix.Close(stop)
	s.mu.Lock()
	defer s.mu.Unlock()
	return thaw.Wrap("serve the mount", s.failed)
}

func (s *Server) resend() error {
	b := make([]byte, outHeaderBytes)
	order.PutUint32(b, outHeaderBytes)
	order.PutUint32(b[4:], notifyResend)
	return s.dev.send(b)
}

func (s *Server) spawn(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spawnLocked(ctx)
}

func (s *Server) spawnLocked(ctx context.Context) {
	s.handlers++
	s.idle++
	s.wg.Go(func() { s.handle(ctx) })
}

// handle is one handler. Whoever takes a request makes sure that somebody is
// left to take the next one.
func (s *Server) handle(ctx context.Context) {
	h := handler{s: s}
	for {
		req, work, err := h.take(ctx)
		if err != nil {
			s.fail(err)
			return
		}
		s.taken(ctx)
		h.answer(req, work)
		if !s.rest() {
			return
		}
	}
}

// taken notes that a handler has something to do.
func (s *Server) taken(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle--
	if s.idle == 0 && s.handlers < s.opts.Handlers {
		s.spawnLocked(ctx)
	}
}

// rest notes that a handler is done, and reports whether it should stay.
func (s *Server) rest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle >= idleHandlers {
		s.handlers--
		return false
	}
	s.idle++
	return true
}

var errStopped = errors.New("told to stop")

// fail ends the server: the first failure is Serve's, and the others are woken.
func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil && !errors.Is(err, errStopped) && !errors.Is(err, errGone) {
		s.failed = err
	}
	_, _ = unix.Write(s.dev.stop, order.AppendUint64(nil, 1))
}

// Stats is what a server has done since it was made.
type Stats struct {
	Requests   int64 `json:"requests"`    // of every kind
	Reads      int64 `json:"reads"`       // read requests answered with bytes
	ReadBytes  int64 `json:"read_bytes"`  // in them
	ReadErrors int64 `json:"read_errors"` // read requests answered with an error
	Timeouts   int64 `json:"timeouts"`    // the part of them that took too long
	Killed     int64 `json:"killed"`      // requests given up since their reader was killed
	// ReadLatency is from a read's arrival here to its answer.
	ReadLatency latency.Snapshot `json:"read_latency"`
}

type serverStats struct {
	requests, reads, readBytes, readErrors, timeouts, killed atomic.Int64
	readLatency                                              latency.Histogram
}

// Stats returns the counters so far.
func (s *Server) Stats() Stats {
	return Stats{
		Requests: s.stats.requests.Load(), Reads: s.stats.reads.Load(), ReadBytes: s.stats.readBytes.Load(),
		ReadErrors: s.stats.readErrors.Load(), Timeouts: s.stats.timeouts.Load(), Killed: s.stats.killed.Load(),
		ReadLatency: s.stats.readLatency.Snapshot(),
	}
}
