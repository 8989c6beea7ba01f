// SPDX-License-Identifier: Apache-2.0

// Package fair shares a bounded resource between owners, who are tenants, or
// addresses where nobody is known yet.
//
// A [Pool] serves by turns of owners and not in the order of arrival: what is
// free goes to the waiting owner that holds least, so an owner with a thousand
// requests delays another by as much as it would with one. Within an owner the
// order is that of arrival. What nobody else wants is lent. A [Bucket] paces what
// an owner uses up.
package fair

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"thaw.dev/thaw"
)

// Options says what a pool holds. Only Name and Size are required.
type Options struct {
	Name string // in metrics and in docs/threat-model.md: "starts"
	Size int64  // units that are held at once, by all owners together

	// PerOwner is the most that one owner holds at once; 0 is Size.
	PerOwner int64

	// KeepFree lets an owner hold at most as much as is then left free: one
	// owner alone gets half of Size, eight of them a ninth each, and the next
	// one always finds some. It is for what is held long, or can't be waited for.
	KeepFree bool

	// Waiters and OwnerWaiters bound who waits in Acquire, in all and of one
	// owner; 0 is no bound.
	Waiters, OwnerWaiters int

	// Patience is how long a request that does not fit is passed by smaller
	// ones; then room is kept for it. 0 is never passed.
	Patience time.Duration
}

// Pool is a bounded resource. Its methods may be called concurrently.
type Pool struct {
	options Options

	mu      sync.Mutex // guards what follows
	held    int64
	owners  map[string]*owner
	waiting int
	turns   uint64 // of grants, so that equal owners take turns
	arrived uint64 // requests that had to wait, ever
	refused uint64
	waited  time.Duration
}

// owner exists while it holds something or waits.
type owner struct {
	name  string
	held  int64
	turn  uint64    // of its last grant
	queue list.List // of *request, oldest first
}

type request struct {
	n       int64
	number  uint64 // of its arrival: the clock may show two the same time
	since   time.Time
	granted chan struct{}
}

// New returns an empty pool. It panics where Size is not positive.
func New(o Options) *Pool {
	if o.Size <= 0 {
		panic("fair: " + o.Name + " has no size")
	}
	if o.PerOwner <= 0 || o.PerOwner > o.Size {
		o.PerOwner = o.Size
	}
	return &Pool{options: o, owners: map[string]*owner{}}
}

// Acquire takes n units for an owner and waits for its turn. The caller calls
// release once when it needs them no more. Errors: [thaw.TooLarge] where n is
// more than an owner may ever hold, [thaw.Throttled] where too many wait
// already, else the context's.
func (p *Pool) Acquire(ctx context.Context, name string, n int64) (release func(), err error) {
	op := "wait for " + p.options.Name
	if n > p.most() {
		return nil, thaw.Errorf(op, thaw.TooLarge, "%d is asked for, and one owner may hold %d", n, p.most())
	}
	p.mu.Lock()
	o := p.owner(name)
	if o.queue.Len() == 0 && p.waiting == 0 && p.fits(o, n) {
		p.grant(o, n)
		p.mu.Unlock()
		return p.releaser(o, n), nil
	}
	if p.options.Waiters > 0 && p.waiting >= p.options.Waiters ||
		p.options.OwnerWaiters > 0 && o.queue.Len() >= p.options.OwnerWaiters {
		p.refused++
		p.forget(o)
		p.mu.Unlock()
		return nil, thaw.Errorf(op, thaw.Throttled, "too many wait already")
	}
	p.arrived++
	r := &request{n: n, number: p.arrived, since: time.Now(), granted: make(chan struct{})}
	e := o.queue.PushBack(r)
	p.waiting++
	p.serve() // it may fit where those that wait do not
	p.mu.Unlock()

	select {
	case <-r.granted:
		return p.releaser(o, n), nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-r.granted: // just now: it goes back
		p.release(o, n)
	default:
		o.queue.Remove(e)
		p.waiting--
		p.waited += time.Since(r.since)
		p.forget(o)
		p.serve() // room may have been kept for it
	}
	return nil, context.Cause(ctx)
}

// TryAcquire is Acquire without a wait: ok is false where the units are not to
// be had now, or others wait for them.
func (p *Pool) TryAcquire(name string, n int64) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owner(name)
	if p.waiting > 0 || !p.fits(o, n) {
		p.refused++
		p.forget(o)
		return nil, false
	}
	p.grant(o, n)
	return p.releaser(o, n), true
}

// Wanted reports whether an owner other than name waits: who has held long
// enough may then give back what it holds, and wait for another turn.
func (p *Pool) Wanted(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.owners {
		if o.name != name && o.queue.Len() > 0 {
			return true
		}
	}
	return false
}

// Usage is a pool at one moment.
type Usage struct {
	Name          string
	Size, Held    int64
	Owners        int           // that hold something or wait
	Waiting       int           // requests
	Refused       uint64        // requests, ever
	Waited        time.Duration // of all requests together, ever
	LongestWaiter time.Duration // the oldest request that waits now
}

// Usage returns how much is held and who waits.
func (p *Pool) Usage() Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := Usage{Name: p.options.Name, Size: p.options.Size, Held: p.held, Owners: len(p.owners),
		Waiting: p.waiting, Refused: p.refused, Waited: p.waited}
	for _, o := range p.owners {
		if e := o.queue.Front(); e != nil {
			u.LongestWaiter = max(u.LongestWaiter, time.Since(e.Value.(*request).since))
		}
	}
	return u
}

// most is what one owner may hold when it is alone.
func (p *Pool) most() int64 {
	if p.options.KeepFree {
		return min(p.options.PerOwner, max(1, p.options.Size/2))
	}
	return p.options.PerOwner
}

// The methods below are called with p.mu held.

func (p *Pool) owner(name string) *owner {
	o := p.owners[name]
	if o == nil {
		o = &owner{name: name}
		p.owners[name] = o
	}
	return o
}

func (p *Pool) forget(o *owner) {
	if o.held == 0 && o.queue.Len() == 0 {
		delete(p.owners, o.name)
	}
}

func (p *Pool) fits(o *owner, n int64) bool {
	free := p.options.Size - p.held
	if n > free || o.held+n > p.options.PerOwner {
		return false
	}
	return !p.options.KeepFree || o.held+n <= max(1, free-n)
}

func (p *Pool) grant(o *owner, n int64) {
	p.held += n
	o.held += n
	p.turns++
	o.turn = p.turns
}

func (p *Pool) releaser(o *owner, n int64) func() {
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.release(o, n)
	})
}

func (p *Pool) release(o *owner, n int64) {
	p.held -= n
	o.held -= n
	p.forget(o)
	p.serve()
}

// serve grants what fits, owner by owner: first who holds least, then whose
// last turn is longest ago.
func (p *Pool) serve() {
	for p.waiting > 0 {
		var waiting []*owner
		for _, o := range p.owners {
			if o.queue.Len() > 0 {
				waiting = append(waiting, o)
			}
		}
		slices.SortFunc(waiting, func(a, b *owner) int {
			return cmp.Or(cmp.Compare(a.held, b.held), cmp.Compare(a.turn, b.turn), cmp.Compare(oldest(a), oldest(b)))
		})
		if !p.serveOne(waiting) {
			return
		}
	}
}

func oldest(o *owner) uint64 { return o.queue.Front().Value.(*request).number }

// serveOne grants the first request that fits and passes nobody whose patience
// is at its end. An owner at its own bound waits for itself and keeps no room.
func (p *Pool) serveOne(waiting []*owner) bool {
	for _, o := range waiting {
		e := o.queue.Front()
		r := e.Value.(*request)
		if p.fits(o, r.n) {
			o.queue.Remove(e)
			p.waiting--
			p.waited += time.Since(r.since)
			p.grant(o, r.n)
			close(r.granted)
			return true
		}
		atBound := o.held > 0 && (p.options.KeepFree || o.held+r.n > p.options.PerOwner)
		if !atBound && time.Since(r.since) >= p.options.Patience {
			return false
		}
	}
	return false
}
