// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
)

// pool keeps the slots, their bounds and those who wait for one. It stops
// nothing itself: what it takes out is handed to discard.
type pool struct {
	limits  Config
	discard func(*slot) // takes over a slot that the pool has forgotten; must not block

	mu        sync.Mutex // guards what follows
	all       map[*slot]struct{}
	idle      map[key][]*slot // the last is the most recently used
	lru       *list.List      // of idle slots, the longest idle first
	finishing map[key]int
	bytes     int64 // of all
	idleBytes int64 // of the idle ones
	starting  int
	startsOf  map[function]int // of starting, each function's
	waiters   []*waiter
	closed    bool
}

func newPool(limits Config, discard func(*slot)) *pool {
	return &pool{
		limits:    limits,
		discard:   discard,
		all:       map[*slot]struct{}{},
		idle:      map[key][]*slot{},
		lru:       list.New(),
		finishing: map[key]int{},
		startsOf:  map[function]int{},
	}
}

// waiter is an invocation without a slot.
type waiter struct {
	key   key
	bytes int64
	held  bool // wants no start yet: a slot of its key is about to be free
	got   chan *slot
}

// acquire leases a slot of that key: an idle one, or one that the caller must
// start. Without either it waits, in order of arrival, and is [thaw.Throttled]
// where too many wait or the wait is too long. A slot that is finishing is
// waited for a moment before another one is started, since its runtime will ask
// for the next invocation in less time than any start takes.
func (p *pool) acquire(ctx context.Context, k key, bytes int64) (*slot, error) {
	p.mu.Lock()
	w := &waiter{key: k, bytes: bytes, got: make(chan *slot, 1)}
	w.held = p.finishing[k] > p.heldLocked(k)
	if s, err := p.admitLocked(w); s != nil || err != nil {
		p.mu.Unlock()
		return s, err
	}
	p.waiters = append(p.waiters, w)
	p.dispatchLocked() // only those before it who want no start may be in its way
	p.mu.Unlock()

	if w.held {
		if s := p.await(ctx, w, p.limits.FinishWait); s != nil {
			return s, nil
		}
		p.mu.Lock()
		w.held = false
		p.dispatchLocked()
		p.mu.Unlock()
	}
	if s := p.await(ctx, w, p.limits.QueueWait); s != nil {
		return s, nil
	}
	return p.giveUp(ctx, w)
}

// admitLocked serves a new waiter at once, refuses it, or neither.
func (p *pool) admitLocked(w *waiter) (*slot, error) {
	const op = "worker: acquire"
	if p.closed {
		return nil, thaw.Errorf(op, thaw.Unavailable, "the worker is stopping")
	}
	if p.limits.MemoryBytes > 0 && w.bytes > p.limits.MemoryBytes {
		return nil, thaw.Errorf(op, thaw.Throttled, "the function's memory exceeds the worker's %d bytes", p.limits.MemoryBytes)
	}
	if s := p.takeIdleLocked(w.key); s != nil {
		return s, nil
	}
	if !w.held && len(p.waiters) == 0 && p.startsOwnLocked(w.key) && p.mayStartLocked(w.bytes) {
		return p.reserveLocked(w), nil
	}
	if len(p.waiters) >= p.limits.MaxQueue {
		return nil, thaw.Errorf(op, thaw.Throttled, "%d invocations wait already", len(p.waiters))
	}
	own := p.countLocked(func(o *waiter) bool { return o.key.function() == w.key.function() })
	if own >= p.limits.MaxFunctionQueue {
		return nil, thaw.Errorf(op, thaw.Throttled, "%d invocations of the function wait already", own)
	}
	return nil, nil
}

func (p *pool) heldLocked(k key) int {
	return p.countLocked(func(w *waiter) bool { return w.held && w.key == k })
}

func (p *pool) countLocked(is func(*waiter) bool) int {
	n := 0
	for _, w := range p.waiters {
		if is(w) {
			n++
		}
	}
	return n
}

// await returns what the waiter got within d, or nil.
func (p *pool) await(ctx context.Context, w *waiter, d time.Duration) *slot {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case s := <-w.got:
		return s
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// giveUp ends a wait. A slot that arrived in the last moment is used after all.
func (p *pool) giveUp(ctx context.Context, w *waiter) (*slot, error) {
	const op = "worker: acquire"
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case s, ok := <-w.got:
		if !ok {
			return nil, thaw.Errorf(op, thaw.Unavailable, "the worker is stopping")
		}
		return s, nil
	default:
	}
	p.waiters = slices.DeleteFunc(p.waiters, func(o *waiter) bool { return o == w })
	p.dispatchLocked() // those behind may fit where this one did not
	if err := ctx.Err(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	return nil, thaw.Errorf(op, thaw.Throttled, "no sandbox became free within %v", p.limits.QueueWait)
}

// takeIdleLocked leases the most recently used idle slot of a key, or nil.
func (p *pool) takeIdleLocked(k key) *slot {
	stack := p.idle[k]
	if len(stack) == 0 {
		return nil
	}
	s := stack[len(stack)-1]
	p.unidleLocked(s)
	return s
}

// unidleLocked takes a slot out of the idle ones.
func (p *pool) unidleLocked(s *slot) {
	s.idle = false
	p.idleBytes -= s.bytes
	p.lru.Remove(s.lru)
	stack := slices.DeleteFunc(p.idle[s.key], func(o *slot) bool { return o == s })
	if len(stack) == 0 {
		delete(p.idle, s.key)
		return
	}
	p.idle[s.key] = stack
}

// startsOwnLocked reports whether the function may have one more start by its
// own bound.
func (p *pool) startsOwnLocked(k key) bool {
	return p.startsOf[k.function()] < p.limits.MaxFunctionStarts
}

// mayStartLocked reports whether a sandbox of that size may be started now, and
// makes room for it by giving up the longest idle ones.
func (p *pool) mayStartLocked(bytes int64) bool {
	if p.starting >= p.limits.MaxStarts || !p.fitsLocked(bytes, p.lru.Len(), p.idleBytes) {
		return false
	}
	for !p.fitsLocked(bytes, 0, 0) {
		p.dropIdleLocked(p.lru.Front().Value.(*slot))
	}
	return true
}

// fitsLocked reports whether one more sandbox of that size is within the bounds
// once so many idle ones of so many bytes are gone.
func (p *pool) fitsLocked(bytes int64, gone int, goneBytes int64) bool {
	return len(p.all)-gone < p.limits.MaxSandboxes &&
		(p.limits.MemoryBytes == 0 || p.bytes-goneBytes+bytes <= p.limits.MemoryBytes)
}

// reserveLocked leases a slot that the caller must start.
func (p *pool) reserveLocked(w *waiter) *slot {
	s := &slot{key: w.key, bytes: w.bytes}
	p.all[s] = struct{}{}
	p.bytes += s.bytes
	p.starting++
	p.startsOf[w.key.function()]++
	return s
}

// dropIdleLocked forgets an idle slot and has it stopped.
func (p *pool) dropIdleLocked(s *slot) {
	p.unidleLocked(s)
	p.forgetLocked(s)
	p.discard(s)
}

func (p *pool) forgetLocked(s *slot) {
	delete(p.all, s)
	p.bytes -= s.bytes
}

// dispatchLocked serves those who wait, in their order. Where one can't start
// a sandbox, those behind it don't either, or it would wait for ever; a slot
// of their own key they may have. One that its own function's starts are in the
// way of holds nobody up.
func (p *pool) dispatchLocked() {
	blocked := false
	p.waiters = slices.DeleteFunc(p.waiters, func(w *waiter) bool {
		s := p.takeIdleLocked(w.key)
		if s == nil && !w.held && !blocked && p.startsOwnLocked(w.key) {
			if p.mayStartLocked(w.bytes) {
				s = p.reserveLocked(w)
			} else {
				blocked = true
			}
		}
		if s != nil {
			w.got <- s
		}
		return s != nil
	})
}

// begun says that a reserved slot's start is over, well or not.
func (p *pool) begun(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	f := s.key.function()
	if p.startsOf[f]--; p.startsOf[f] == 0 {
		delete(p.startsOf, f)
	}
	p.dispatchLocked()
}

// answered says that a leased slot is finishing: its lease will end soon.
func (p *pool) answered(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.finishing = true
	p.finishing[s.key]++
}

// unleaseLocked ends a lease, in one step with what becomes of the slot: else
// somebody could start a sandbox between the two.
func (p *pool) unleaseLocked(s *slot) {
	if !s.finishing {
		return
	}
	s.finishing = false
	if p.finishing[s.key]--; p.finishing[s.key] == 0 {
		delete(p.finishing, s.key)
	}
}

// release ends a lease: the slot is idle, unless it is not wanted any more.
func (p *pool) release(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unleaseLocked(s)
	if s.retired || p.closed {
		p.forgetLocked(s)
		p.discard(s)
		p.dispatchLocked()
		return
	}
	s.idle, s.idleSince = true, time.Now()
	p.idleBytes += s.bytes
	p.idle[s.key] = append(p.idle[s.key], s)
	s.lru = p.lru.PushBack(s)
	p.dispatchLocked()
	if s.idle {
		s.rest(p.limits.FreezeAfter, p.limits.StopTimeout)
	}
}

// drop ends the lease of a slot that is of no more use and has it stopped.
func (p *pool) drop(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unleaseLocked(s)
	p.forgetLocked(s)
	p.discard(s)
	p.dispatchLocked()
}

// died has a slot stopped whose sandbox ended while it was idle. Whoever leases
// one finds out by itself.
func (p *pool) died(s *slot, box sandbox.Sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.idle && s.box == box { // not the first try's
		p.dropIdleLocked(s)
		p.dispatchLocked()
	}
}

// retire stops the slots of a function: idle ones now, the others at the end of
// their lease.
func (p *pool) retire(tenant thaw.TenantID, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.all {
		if s.key.tenant != tenant || s.key.name != name {
			continue
		}
		if s.idle {
			p.dropIdleLocked(s)
		} else {
			s.retired = true
		}
	}
	p.dispatchLocked()
}

// reap stops the slots that have been idle for too long.
func (p *pool) reap(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.lru.Front(); e != nil; e = p.lru.Front() {
		s := e.Value.(*slot)
		if now.Sub(s.idleSince) < p.limits.IdleTimeout {
			return
		}
		p.dropIdleLocked(s)
	}
}

// close refuses whoever comes and whoever waits, and stops the idle slots.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, w := range p.waiters {
		close(w.got)
	}
	p.waiters = nil
	for e := p.lru.Front(); e != nil; e = p.lru.Front() {
		p.dropIdleLocked(e.Value.(*slot))
	}
}

// Stats counts a worker's sandboxes.
type Stats struct {
	Sandboxes int   // alive or starting
	Idle      int   // of them
	Starting  int   // of them
	Waiting   int   // invocations without one
	Bytes     int64 // sum of their functions' memory sizes
}

func (p *pool) stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Sandboxes: len(p.all),
		Idle:      p.lru.Len(),
		Starting:  p.starting,
		Waiting:   len(p.waiters),
		Bytes:     p.bytes,
	}
}
