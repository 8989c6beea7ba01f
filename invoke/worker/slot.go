// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"container/list"
	"context"
	"sync"
	"time"

	"thaw.dev/thaw/invoke/logs"
	"thaw.dev/thaw/invoke/runtimeapi"
	"thaw.dev/thaw/invoke/sandbox"
)

// peakEvery is how fresh the memory figure of REPORT is at least: reading it
// for each of a thousand invocations a second would cost more than they do.
const peakEvery = 100 * time.Millisecond

// slot is one sandbox, or the leave to start one. Whoever leased it from the
// pool owns the fields in the first group; the pool owns the second.
type slot struct {
	key  key
	size amount

	root    Root
	log     *logs.Writer
	stream  string
	box     sandbox.Sandbox // nil until started
	api     *runtimeapi.Server
	peak    int64
	peakAt  time.Time
	started bool  // Root.Started was called
	boosted bool  // the CPU limit of init is still off
	oom     int64 // OOM kills that were told, or were before this invocation

	// guarded by pool.mu, but the owner, which stays
	owner     *owner
	starting  bool
	idle      bool
	finishing bool
	retired   bool
	idleSince time.Time
	lru       *list.Element

	freezeMu sync.Mutex // guards what follows, and orders Freeze and Thaw
	resting  bool
	frozen   bool
	timer    *time.Timer
}

// id is the sandbox's id, the random part of its stream's name; "" before it has
// one.
func (s *slot) id() string { return s.stream[max(0, len(s.stream)-32):] }

// rest lets the slot be frozen once it has been idle for so long.
func (s *slot) rest(after, timeout time.Duration) {
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	s.resting = true
	if s.timer == nil {
		s.timer = time.AfterFunc(after, func() { s.freeze(timeout) })
		return
	}
	s.timer.Reset(after)
}

// freeze freezes a slot that still rests. A sandbox that can't be frozen runs
// on: its next invocation finds it well or dead.
func (s *slot) freeze(timeout time.Duration) {
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	if !s.resting || s.frozen {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s.frozen = true // also after an error: then Thaw undoes a part of it
	_ = s.box.Freeze(ctx)
}

// wake undoes rest. It waits for a freeze that is under way.
func (s *slot) wake(timeout time.Duration) error {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	s.resting = false
	if !s.frozen {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s.frozen = false
	return s.box.Thaw(ctx)
}

// exited reports whether the sandbox is at its end.
func (s *slot) exited() bool {
	select {
	case <-s.box.Done():
		return true
	default:
		return false
	}
}

// memoryPeak is what the sandbox needed at most, as far as it can tell. It is
// read anew only if wanted or old.
func (s *slot) memoryPeak(now time.Time, anew bool) int64 {
	meter, ok := s.box.(sandbox.Meter)
	if !ok || !anew && now.Sub(s.peakAt) < peakEvery {
		return s.peak
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if peak, err := meter.MemoryPeak(ctx); err == nil {
		s.peak = max(s.peak, peak)
	}
	s.peakAt = now
	return s.peak
}

// oomKills is the sandbox's count of OOM kills.
func (s *slot) oomKills() int64 {
	if meter, ok := s.box.(sandbox.Meter); ok {
		return meter.OOMKills()
	}
	return 0
}

// drain has what the sandbox printed up to now logged.
func (s *slot) drain() {
	if d, ok := s.box.(sandbox.Drainer); ok {
		d.Drain()
	}
}

// endBoost puts the CPU limit in force once init is over.
func (s *slot) endBoost(timeout time.Duration) error {
	if !s.boosted {
		return nil
	}
	s.boosted = false
	booster, ok := s.box.(sandbox.Booster)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return booster.EndBoost(ctx)
}

// markStarted tells the root file system, once, that the start is over.
func (s *slot) markStarted() {
	if !s.started && s.root.Started != nil {
		s.root.Started()
	}
	s.started = true
}

// halt stops the sandbox and its Runtime API, but leaves what another try would
// use: the root and the log. All that the sandbox has printed is logged then.
func (s *slot) halt(timeout time.Duration) error {
	if s.box == nil {
		return nil
	}
	s.memoryPeak(time.Now(), true)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := s.box.Stop(ctx)
	s.api.Close()
	return err
}

// close stops everything of a slot that nobody leases any more.
func (s *slot) close(timeout time.Duration) error {
	s.freezeMu.Lock()
	s.resting = false
	if s.timer != nil {
		s.timer.Stop()
	}
	s.freezeMu.Unlock()
	err := s.halt(timeout)
	if s.log != nil {
		err = firstError(err, s.log.Close())
	}
	if s.root.Release != nil {
		s.root.Release()
	}
	return err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
