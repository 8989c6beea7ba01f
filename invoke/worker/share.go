// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"cmp"
	"container/list"

	"thaw.dev/thaw"
)

// Tenants share slots, their memory, starts and places in the queue by these
// rules; docs/decisions/0008 says why.
//
//   - Each tenant has a floor: that much is always left free for it, since nothing
//     that is busy is ever taken back.
//   - An owner's load is its part of what is scarcest, divided by its weight. Of those
//     that wait the one that uses least is next.
//   - Its share is its weight's part of all that want something. What others leave
//     is lent: an owner may have more. But while one waits for room that would be
//     within its share, nobody starts anything beyond theirs.
//   - Idle slots give way, those of the highest load first: to a start within its
//     owner's share any, to one beyond it only those of a higher load.

// what is shared; the index of an amount.
const (
	slots = iota
	memory
	starts
	places
	kinds
)

// amount is how much of each.
type amount [kinds]int64

func (a *amount) add(b amount) {
	for i := range a {
		a[i] += b[i]
	}
}

func (a *amount) take(b amount) {
	for i := range a {
		a[i] -= b[i]
	}
}

// least is the smallest floor: one function of the smallest size.
var least = amount{slots: 1, memory: 128 << 20, starts: 1, places: 1}

// owner is a tenant that has slots, or waits for some.
type owner struct {
	tenant thaw.TenantID
	weight int64
	all    amount     // slots and memory, idle ones included
	used   amount     // without the idle ones
	idle   *list.List // of *slot, the longest idle first
	lines  []*line    // of those that wait
	turn   uint64     // of its last start

	// While evictLocked chooses: what is left of all, and its longest idle slot
	// that is not chosen.
	left amount
	next *list.Element
}

// ownerLocked returns a tenant's owner, which exists while it has slots or
// waits: see forgetLocked.
func (p *pool) ownerLocked(tenant thaw.TenantID) *owner {
	o := p.owners[tenant]
	if o == nil {
		o = &owner{tenant: tenant, weight: 1, idle: list.New()}
		if p.limits.Weight != nil {
			o.weight = int64(max(1, p.limits.Weight(tenant)))
		}
		p.owners[tenant] = o
	}
	return o
}

func (p *pool) forgetLocked(o *owner) {
	if o.all[slots] == 0 && o.used[places] == 0 {
		delete(p.owners, o.tenant)
	}
}

// tenants is the sum of the weights of all tenants there are, which may be more
// than want something; of a tenant that is alone it is its own.
func (p *pool) tenants(o *owner) int64 {
	if p.limits.Weights == nil {
		return o.weight
	}
	return max(o.weight, int64(p.limits.Weights()))
}

// floor is how much of a kind is kept for a tenant of weight 1.
func (p *pool) floor(kind int, tenants int64) int64 {
	if p.limits.Reserve == 0 {
		return 0
	}
	return max(least[kind], (p.size[kind]*int64(p.limits.Reserve)/100+tenants-1)/tenants)
}

// leaves reports whether an owner that has n of a kind, of which so much is free
// then, is within its floor, or leaves enough for the floors of the others. At
// most half of all is kept for them.
func (p *pool) leaves(o *owner, kind int, n, free int64, has func(*owner) int64) bool {
	tenants := p.tenants(o)
	floor := p.floor(kind, tenants)
	if p.size[kind] == 0 || free >= 0 && (tenants == o.weight || n <= o.weight*floor) {
		return true
	}
	missing := (tenants - o.weight) * floor
	for _, other := range p.owners {
		if other != o {
			missing -= min(has(other), other.weight*floor)
		}
	}
	return free >= max(0, min(missing, p.size[kind]/2))
}

// mostBytes is the largest memory that one slot of an owner may ever have; 0 is
// no bound.
func (p *pool) mostBytes(o *owner) int64 {
	size, tenants := p.size[memory], p.tenants(o)
	return size - min(size/2, (tenants-o.weight)*p.floor(memory, tenants))
}

// scarcest is the kind of which a has the largest part.
func (p *pool) scarcest(a amount) int {
	part := func(kind int) float64 { return float64(a[kind]) / float64(max(1, p.size[kind])) }
	kind := slots
	for i := range places {
		if p.size[i] > 0 && part(i) > part(kind) {
			kind = i
		}
	}
	return kind
}

// load is what a means to an owner where that kind is scarce.
func (p *pool) load(o *owner, a amount, kind int) float64 {
	return float64(a[kind]) / float64(p.size[kind]) / float64(o.weight)
}

// beyond reports whether a is beyond an owner's share of a kind, which is never
// less than its floor, where all that share weigh so much.
func (p *pool) beyond(o *owner, a amount, kind int, weights int64) bool {
	return a[kind] > o.weight*max(p.size[kind]/weights, p.floor(kind, p.tenants(o)))
}

// weightsLocked is the sum of the weights of those that use something or wait,
// and that of all, those included that have nothing but idle slots.
func (p *pool) weightsLocked() (using, all int64) {
	for _, o := range p.owners {
		all += o.weight
		if o.used[slots] > 0 || o.used[places] > 0 {
			using += o.weight
		}
	}
	return using, all
}

// makeRoomLocked reports whether a slot of that size may be started for an owner
// now, and makes room for it by giving up idle ones.
func (p *pool) makeRoomLocked(o *owner, size amount, weights int64) bool {
	if p.used[slots] >= p.size[slots] || p.size[memory] > 0 && p.used[memory]+size[memory] > p.size[memory] ||
		!p.leaves(o, starts, o.used[starts]+1, p.size[starts]-p.used[starts]-1, func(o *owner) int64 { return o.used[starts] }) {
		return false
	}
	evicted, ok := p.evictLocked(o, size, weights)
	if ok {
		for _, s := range evicted {
			p.dropIdleLocked(s)
		}
	}
	return ok
}

// lacking returns what there is not enough of for one slot more of that size, where
// all have what is left to them. ok is false where it fits.
func (p *pool) lacking(o *owner, left, size amount) (kind int, ok bool) {
	for _, kind := range []int{slots, memory} {
		if !p.leaves(o, kind, o.left[kind]+size[kind], p.size[kind]-left[kind]-size[kind], func(o *owner) int64 { return o.left[kind] }) {
			return kind, true
		}
	}
	return 0, false
}

// evictLocked chooses which idle slots give way to one of that size.
func (p *pool) evictLocked(o *owner, size amount, weights int64) (evicted []*slot, ok bool) {
	for _, d := range p.owners {
		d.left, d.next = d.all, d.idle.Front()
	}
	left := p.all
	for {
		kind, short := p.lacking(o, left, size)
		if !short {
			return evicted, true
		}
		d := p.donor(o, size, kind, weights)
		if d == nil {
			return nil, false
		}
		s := d.next.Value.(*slot)
		evicted = append(evicted, s)
		d.next = d.next.Next()
		d.left.take(s.size)
		left.take(s.size)
	}
}

// donor returns the owner that gives up its longest idle slot for one of that
// size, or nil. What is within somebody else's floor makes no room: it is kept.
func (p *pool) donor(o *owner, size amount, kind int, weights int64) *owner {
	wanted, bound := o.left, -1.0
	wanted.add(size)
	if p.beyond(o, wanted, kind, weights) {
		bound = p.load(o, wanted, kind)
	}
	var best *owner
	for _, d := range p.owners {
		if d.next == nil || d != o && (p.load(d, d.left, kind) <= bound || d.left[kind] <= d.weight*p.floor(kind, p.tenants(d))) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(p.load(d, d.left, kind), p.load(best, best.left, kind)),
			best.next.Value.(*slot).idleSince.Compare(d.next.Value.(*slot).idleSince)) > 0 {
			best = d
		}
	}
	return best
}
