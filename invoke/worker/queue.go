// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"cmp"
	"container/list"
	"math"
	"slices"
	"time"
)

// waiter is an invocation without a slot.
type waiter struct {
	line  *line
	entry *list.Element // of line.queue
	since time.Time
	turn  uint64 // by arrival
	held  bool   // wants no start yet: a slot of its key is about to be free
	got   chan *slot
}

// line is those who wait for a slot of one key.
type line struct {
	key   key
	size  amount // of one slot
	owner *owner
	queue list.List // of *waiter in the order of arrival, never empty
	held  int       // of them
}

func (l *line) first() *waiter { return l.queue.Front().Value.(*waiter) }

// starter returns the first that wants a start, or nil.
func (l *line) starter() *waiter {
	if l.held == l.queue.Len() {
		return nil
	}
	e := l.queue.Front()
	for e.Value.(*waiter).held {
		e = e.Next()
	}
	return e.Value.(*waiter)
}

// enqueueLocked has an invocation wait. It is held where more slots of its key
// are finishing than others are held for.
func (p *pool) enqueueLocked(o *owner, k key, bytes int64) *waiter {
	l := p.lines[k]
	if l == nil {
		l = &line{key: k, size: amount{slots: 1, memory: bytes}, owner: o}
		p.lines[k] = l
		o.lines = append(o.lines, l)
	}
	p.arrivals++
	w := &waiter{line: l, since: time.Now(), turn: p.arrivals, got: make(chan *slot, 1), held: p.finishing[k] > l.held}
	if w.held {
		l.held++
	}
	w.entry = l.queue.PushBack(w)
	o.used[places]++
	p.used[places]++
	p.countsLocked(k.function()).waiting++
	return w
}

// dequeueLocked ends a wait. The caller sees to it that the owner is forgotten.
func (p *pool) dequeueLocked(w *waiter) {
	l := w.line
	l.queue.Remove(w.entry)
	if w.held {
		l.held--
	}
	if l.queue.Len() == 0 {
		delete(p.lines, l.key)
		l.owner.lines = slices.DeleteFunc(l.owner.lines, func(o *line) bool { return o == l })
	}
	l.owner.used[places]--
	p.used[places]--
	f := l.key.function()
	p.countsLocked(f).waiting--
	p.uncountLocked(f)
	p.waited += time.Since(w.since)
}

// unholdLocked lets a waiter have a start.
func (p *pool) unholdLocked(w *waiter) {
	if w.held {
		w.held = false
		w.line.held--
		p.dispatchLocked()
	}
}

// fullLocked says why one more of that key may not wait: its function, its tenant
// or all together have too many that do.
func (p *pool) fullLocked(o *owner, k key) error {
	own := p.countsOf(k).waiting
	switch {
	case p.used[places] >= p.size[places]:
		return refusal("%d invocations wait already", p.size[places])
	case own >= p.limits.MaxFunctionQueue:
		return refusal("%d invocations of the function wait already", own)
	case !p.leaves(o, places, o.used[places]+1, p.size[places]-p.used[places]-1, func(o *owner) int64 { return o.used[places] }):
		return refusal("%d of your invocations wait already, and the rest is kept for others", o.used[places])
	}
	return nil
}

// hangUpLocked ends all waits.
func (p *pool) hangUpLocked() {
	for _, l := range p.lines {
		for l.queue.Len() > 0 {
			w := l.first()
			p.dequeueLocked(w)
			close(w.got)
		}
		p.forgetLocked(l.owner)
	}
}

// countsLocked returns what a function has under way, to be changed.
func (p *pool) countsLocked(f function) *counts {
	c := p.functions[f]
	if c == nil {
		c = &counts{}
		p.functions[f] = c
	}
	return c
}

func (p *pool) uncountLocked(f function) {
	if *p.functions[f] == (counts{}) {
		delete(p.functions, f)
	}
}

// dispatchLocked serves those who wait.
func (p *pool) dispatchLocked() {
	for p.used[places] > 0 && p.serveLocked() {
	}
}

// serveLocked gives the next start to one who waits and reports whether there was
// one: idle slots of their keys there are none, see release. Owners take turns, within an owner the order is that of arrival. One that
// does not fit now is passed by those that do, but after Patience only by those
// of others that are within their share, or it would wait for ever. One that its
// own bounds are in the way of is in nobody's.
func (p *pool) serveLocked() bool {
	kind := p.scarcest(p.used)
	using, all := p.weightsLocked()
	blocked := false // whoever would be beyond its share starts nothing
	for _, o := range p.inTurnLocked(kind) {
		kept := false                 // o starts nothing
		unfit := int64(math.MaxInt64) // from that memory on nothing of o fits
		for _, l := range o.lines {
			w := l.starter()
			if w == nil || p.countsOf(l.key).starting >= p.limits.MaxFunctionStarts {
				continue
			}
			wanted := o.used
			wanted.add(l.size)
			wanted[starts]++
			beyond := p.beyond(o, wanted, kind, using)
			if kept || blocked && beyond {
				continue
			}
			if l.size[memory] < unfit && p.makeRoomLocked(o, l.size, all) {
				p.grantLocked(w, p.reserveLocked(l))
				return true
			}
			unfit = min(unfit, l.size[memory])
			late := time.Since(w.since) >= p.limits.Patience
			kept = late
			blocked = blocked || late || !beyond
		}
	}
	return false
}

// countsOf returns what the function of a key has under way.
func (p *pool) countsOf(k key) counts {
	if c := p.functions[k.function()]; c != nil {
		return *c
	}
	return counts{}
}

// inTurnLocked returns the owners that wait: first who has the least load, then
// whose last turn is longest ago. Their lines are in the order of arrival.
func (p *pool) inTurnLocked(kind int) []*owner {
	var waiting []*owner
	for _, o := range p.owners {
		if o.used[places] > 0 {
			waiting = append(waiting, o)
			slices.SortFunc(o.lines, func(a, b *line) int { return cmp.Compare(a.first().turn, b.first().turn) })
		}
	}
	slices.SortFunc(waiting, func(a, b *owner) int {
		return cmp.Or(cmp.Compare(p.load(a, a.used, kind), p.load(b, b.used, kind)), cmp.Compare(a.turn, b.turn),
			cmp.Compare(a.lines[0].first().turn, b.lines[0].first().turn))
	})
	return waiting
}

// grantLocked gives a slot to one who waits.
func (p *pool) grantLocked(w *waiter, s *slot) {
	p.dequeueLocked(w)
	w.got <- s
}
