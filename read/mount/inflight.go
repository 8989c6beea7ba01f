// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"thaw.dev/thaw"
)

// killPoll is how often an interrupted reader is looked at: the kernel tells of
// the first signal only, and a later one may be the kill.
const killPoll = 50 * time.Millisecond

// inflight are the requests that may be waiting for something.
type inflight struct {
	watchers sync.WaitGroup

	mu    sync.Mutex
	works map[uint64]*work
}

// work is one request that may wait.
type work struct {
	ctx    context.Context //nolint:containedctx // a request of the kernel is what the context is of
	cancel context.CancelCauseFunc
	parent context.Context //nolint:containedctx // the server's, to tell its end from the request's
	unique uint64
	pid    uint32

	begun   time.Time     // guarded by inflight.mu: when its time began, zero before
	watched bool          // guarded by inflight.mu: somebody looks whether the reader was killed
	done    chan struct{} // closed at its end, once watched
}

// Why a work's context ended. Kinds decide what the kernel is told.
var (
	errKilled   = thaw.Errorf("", thaw.Canceled, "the reader was killed")
	errTimedOut = thaw.Errorf("", thaw.Unavailable, "it took too long")
)

func (f *inflight) begin(parent context.Context, req request) *work {
	w := &work{parent: parent, unique: req.unique, pid: req.pid}
	w.ctx, w.cancel = context.WithCancelCause(parent)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.works == nil {
		f.works = map[uint64]*work{}
	}
	f.works[req.unique] = w
	return w
}

// time has the time of a work begin, and returns the context that ends with it.
func (f *inflight) time(w *work, timeout time.Duration) (context.Context, context.CancelFunc) {
	f.mu.Lock()
	w.begun = time.Now()
	f.mu.Unlock()
	return context.WithTimeoutCause(w.ctx, timeout, errTimedOut)
}

func (f *inflight) oldest() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var age time.Duration
	for _, w := range f.works {
		if !w.begun.IsZero() {
			age = max(age, time.Since(w.begun))
		}
	}
	return age
}

// stopped reports that the server ended before the work did.
func (w *work) stopped() bool { return w.parent.Err() != nil }

// verdict is what a failed request failed of, ctx being what it was handled
// under. A cancellation that is not the reader's own death must never look like one.
func (w *work) verdict(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(cause, errKilled):
		return cause
	case errors.Is(cause, errTimedOut):
		return thaw.Errorf("", thaw.Unavailable, "%w: %w", errTimedOut, err)
	case thaw.KindOf(err) == thaw.Canceled:
		return thaw.Errorf("", thaw.Internal, "canceled though nobody asked: %w", err)
	}
	return err
}

func (f *inflight) end(w *work) {
	f.mu.Lock()
	if f.works[w.unique] == w {
		delete(f.works, w.unique)
	}
	if w.watched {
		close(w.done)
	}
	f.mu.Unlock()
	w.cancel(nil)
}

// interrupt is told that the reader of a request got a signal. The request goes
// on: an answer of EINTR would reach an ordinary reader as a failed read. Only
// if the reader was killed, or is before the request ends, it is given up.
func (f *inflight) interrupt(unique uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.works[unique]
	if w == nil || w.watched || w.pid == 0 {
		return
	}
	w.watched = true
	w.done = make(chan struct{})
	f.watchers.Go(w.watch) // ends with the work
}

func (w *work) watch() {
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for {
		if killPending(w.pid) {
			w.cancel(errKilled)
			return
		}
		select {
		case <-w.done:
			return
		case <-tick.C:
		}
	}
}

// killPending reports that the thread is about to die of SIGKILL, or is gone.
func killPending(tid uint32) bool {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return os.IsNotExist(err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && mask&(1<<(syscall.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}
