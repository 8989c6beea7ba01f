// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
)

// pool keeps the slots, their bounds and those who wait for one. It stops
// nothing itself: what it takes out is handed to discard. Who gets what is said
// in share.go, in which order those that wait are served in queue.go.
type pool struct {
	limits  Config
	discard func(*slot) // takes over a slot that the pool has forgotten; must not block

	size amount // what there is; no memory is no bound

	mu        sync.Mutex // guards what follows
	live      map[*slot]struct{}
	idle      map[key][]*slot // the last is the most recently used
	finishing map[key]int
	functions map[function]*counts
	owners    map[thaw.TenantID]*owner
	all       amount // slots and memory, idle ones included
	used      amount // without the idle ones
	lines     map[key]*line
	arrivals  uint64
	turns     uint64 // of grants, so that equal owners take turns
	closed    bool

	tooMany uint64        // invocations that were refused, since too many waited
	tooLong uint64        // since none became free
	waited  time.Duration // by all that waited and wait no more
}

// counts is what a function has under way.
type counts struct{ starting, waiting int }

func newPool(limits Config, discard func(*slot)) *pool {
	return &pool{
		limits:  limits,
		discard: discard,
		size: amount{slots: int64(limits.MaxSandboxes), memory: limits.MemoryBytes, starts: int64(limits.MaxStarts),
			places: int64(limits.MaxQueue)},
		live:      map[*slot]struct{}{},
		idle:      map[key][]*slot{},
		finishing: map[key]int{},
		functions: map[function]*counts{},
		owners:    map[thaw.TenantID]*owner{},
		lines:     map[key]*line{},
	}
}

var errStopping = thaw.Errorf("worker: acquire", thaw.Unavailable, "the worker is stopping")

// Refusal says, to the owner of a function, why an invocation of it is
// [thaw.Throttled].
type Refusal struct{ Why string }

// Error returns why.
func (r *Refusal) Error() string { return r.Why }

// refusal is an error that a [Refusal] explains.
func refusal(format string, args ...any) error {
	return thaw.Errorf("worker: acquire", thaw.Throttled, "%w", &Refusal{fmt.Sprintf(format, args...)})
}

// acquire leases a slot of that key: an idle one, or one that the caller must
// start. Without either it waits for its turn, and is [thaw.Throttled] where
// too many wait or the wait is too long. A slot that is finishing is
// waited for a moment before another one is started, since its runtime will ask
// for the next invocation in less time than any start takes.
func (p *pool) acquire(ctx context.Context, k key, bytes int64) (*slot, error) {
	p.mu.Lock()
	w, s, err := p.admitLocked(k, bytes)
	p.mu.Unlock()
	if s != nil || err != nil {
		return s, err
	}
	if w.held {
		if s := p.await(ctx, w, p.limits.FinishWait); s != nil {
			return s, nil
		}
		p.mu.Lock()
		p.unholdLocked(w)
		p.mu.Unlock()
	}
	if s := p.await(ctx, w, p.limits.QueueWait); s != nil {
		return s, nil
	}
	return p.giveUp(ctx, w)
}

// admitLocked serves an invocation at once, refuses it, or has it wait.
func (p *pool) admitLocked(k key, bytes int64) (*waiter, *slot, error) {
	if p.closed {
		return nil, nil, errStopping
	}
	o := p.ownerLocked(k.tenant)
	defer p.forgetLocked(o)
	if most := p.mostBytes(o); most > 0 && bytes > most {
		return nil, nil, refusal("the function's memory of %d MB exceeds the %d MB that it may have on this worker", bytes>>20, most>>20)
	}
	if s := p.takeIdleLocked(k); s != nil {
		return nil, s, nil
	}
	// Beyond the bounds on waiting it may still have a start at once.
	full := p.fullLocked(o, k)
	w := p.enqueueLocked(o, k, bytes)
	p.dispatchLocked()
	select {
	case s := <-w.got:
		return nil, s, nil
	default:
	}
	if full != nil {
		p.tooMany++
		p.dequeueLocked(w)
		return nil, nil, full
	}
	return w, nil, nil
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
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case s, ok := <-w.got:
		if !ok {
			return nil, errStopping
		}
		return s, nil
	default:
	}
	p.dequeueLocked(w)
	p.forgetLocked(w.line.owner)
	p.dispatchLocked() // others may fit where this one did not
	if err := ctx.Err(); err != nil {
		return nil, thaw.Wrap("worker: acquire", err)
	}
	p.tooLong++
	return nil, refusal("no sandbox became free within %v", p.limits.QueueWait)
}

// takeIdleLocked leases the most recently used idle slot of a key, or returns nil.
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
	p.used.add(s.size)
	s.owner.used.add(s.size)
	s.owner.idle.Remove(s.lru)
	stack := slices.DeleteFunc(p.idle[s.key], func(o *slot) bool { return o == s })
	if len(stack) == 0 {
		delete(p.idle, s.key)
		return
	}
	p.idle[s.key] = stack
}

// reserveLocked leases a slot that the caller must start.
func (p *pool) reserveLocked(l *line) *slot {
	o := l.owner
	s := &slot{key: l.key, size: l.size, owner: o, starting: true}
	p.live[s] = struct{}{}
	for _, a := range []*amount{&p.all, &p.used, &o.all, &o.used} {
		a.add(s.size)
	}
	p.used[starts]++
	o.used[starts]++
	p.countsLocked(l.key.function()).starting++
	p.turns++
	o.turn = p.turns
	return s
}

// dropIdleLocked removes an idle slot and has it stopped.
func (p *pool) dropIdleLocked(s *slot) {
	p.unidleLocked(s)
	p.removeLocked(s)
}

// removeLocked forgets a slot that is not idle, and has it stopped.
func (p *pool) removeLocked(s *slot) {
	delete(p.live, s)
	for _, a := range []*amount{&p.all, &p.used, &s.owner.all, &s.owner.used} {
		a.take(s.size)
	}
	p.forgetLocked(s.owner)
	p.discard(s)
}

// begun says that a reserved slot's start is over, well or not, or takes so
// long that others must not wait for it. A second call does nothing.
func (p *pool) begun(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.starting {
		return
	}
	s.starting = false
	p.used[starts]--
	s.owner.used[starts]--
	f := s.key.function()
	p.countsLocked(f).starting--
	p.uncountLocked(f)
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
		p.removeLocked(s)
		p.dispatchLocked()
		return
	}
	if l := p.lines[s.key]; l != nil {
		p.grantLocked(l.first(), s)
		return
	}
	s.idle, s.idleSince = true, time.Now()
	p.used.take(s.size)
	s.owner.used.take(s.size)
	p.idle[s.key] = append(p.idle[s.key], s)
	s.lru = s.owner.idle.PushBack(s)
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
	p.removeLocked(s)
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
	for s := range p.live {
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
	for _, o := range p.owners {
		for e := o.idle.Front(); e != nil; e = o.idle.Front() {
			s := e.Value.(*slot)
			if now.Sub(s.idleSince) < p.limits.IdleTimeout {
				break
			}
			p.dropIdleLocked(s)
		}
	}
	p.dispatchLocked() // the shares of those that are left have grown
}

// close refuses whoever comes and whoever waits, and stops the idle slots.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.hangUpLocked()
	for _, o := range p.owners {
		for e := o.idle.Front(); e != nil; e = o.idle.Front() {
			p.dropIdleLocked(e.Value.(*slot))
		}
	}
}
