// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"cmp"
	"container/list"
	"slices"

	"thaw.dev/thaw"
)

// Tenants share slots, their memory, starts and places in the queue by these
// rules; docs/decisions/0008 says why.
//
//   - Each tenant has a floor: that much is always left free for it, since nothing
//     that is busy is ever taken back.
//   - An owner's load is the largest part that it has of slots, memory or starts,
//     divided by its weight. Of those that wait the one that uses least is next.
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
	return max(least[kind], p.size[kind]*int64(p.limits.Reserve)/100/tenants)
}

// mayUseLocked reports whether an owner may use so much more: it is within its
// floor, or leaves enough free for the floors of the others.
func (p *pool) mayUseLocked(o *owner, more amount) bool {
	tenants := p.tenants(o)
	if tenants == o.weight {
		return true
	}
	for i, n := range more {
		if n == 0 || p.size[i] == 0 {
			continue
		}
		floor := p.floor(i, tenants)
		if o.used[i]+n <= o.weight*floor {
			continue
		}
		free := p.size[i] - p.used[i] - n
		if free >= min(p.size[i]/2, (tenants-o.weight)*floor) {
			continue // also if the others use nothing
		}
		if free < p.missingLocked(i, o, tenants) {
			return false
		}
	}
	return true
}

// missingLocked is how much the others of o have not yet used of their floors, at
// most half of all there is.
func (p *pool) missingLocked(kind int, o *owner, tenants int64) int64 {
	floor := p.floor(kind, tenants)
	missing := (tenants - o.weight) * floor
	for _, other := range p.owners {
		if other != o {
			missing -= min(other.used[kind], other.weight*floor)
		}
	}
	return min(missing, p.size[kind]/2)
}

// mostBytes is the largest memory that one slot of an owner may ever have; 0 is
// no bound.
func (p *pool) mostBytes(o *owner) int64 {
	size, tenants := p.size[memory], p.tenants(o)
	return size - min(size/2, (tenants-o.weight)*p.floor(memory, tenants))
}

// load is what a means to an owner.
func (p *pool) load(o *owner, a amount) float64 {
	part := 0.0
	for i := range places {
		if p.size[i] > 0 {
			part = max(part, float64(a[i])/float64(p.size[i]))
		}
	}
	return part / float64(o.weight)
}

// beyond reports whether a is beyond an owner's share, which is never less than
// its floor, where all that share weigh so much.
func (p *pool) beyond(o *owner, a amount, weights int64) bool {
	tenants := p.tenants(o)
	for i := range places {
		if p.size[i] > 0 && a[i] > o.weight*max(p.size[i]/weights, p.floor(i, tenants)) {
			return true
		}
	}
	return false
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
	if p.used[starts] >= p.size[starts] || !p.fits(p.used, size) {
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

// fits reports whether a slot of that size is within the bounds beside a.
func (p *pool) fits(a, size amount) bool {
	return a[slots] < p.size[slots] && (p.size[memory] == 0 || a[memory]+size[memory] <= p.size[memory])
}

// donor is an owner of idle slots, of which some are given up.
type donor struct {
	*owner
	left amount        // of all its slots
	next *list.Element // its longest idle slot that is left
}

// evictLocked chooses which idle slots give way to one of that size.
func (p *pool) evictLocked(o *owner, size amount, weights int64) (evicted []*slot, ok bool) {
	if p.fits(p.all, size) {
		return nil, true
	}
	own := &donor{owner: o, left: o.all, next: o.idle.Front()}
	donors := []*donor{own}
	for _, d := range p.owners {
		if d != o && d.idle.Len() > 0 {
			donors = append(donors, &donor{owner: d, left: d.all, next: d.idle.Front()})
		}
	}
	for all := p.all; !p.fits(all, size); {
		wanted := own.left
		wanted.add(size)
		d := p.donorOf(donors, own, wanted, weights)
		if d == nil {
			return nil, false
		}
		s := d.next.Value.(*slot)
		evicted = append(evicted, s)
		d.next = d.next.Next()
		d.left.take(s.size)
		all.take(s.size)
	}
	return evicted, true
}

// donorOf returns who gives up its longest idle slot so that own has what is
// wanted, or nil.
func (p *pool) donorOf(donors []*donor, own *donor, wanted amount, weights int64) *donor {
	bound := -1.0
	if p.beyond(own.owner, wanted, weights) {
		bound = p.load(own.owner, wanted)
	}
	donors = slices.DeleteFunc(slices.Clone(donors), func(d *donor) bool {
		return d.next == nil || d != own && p.load(d.owner, d.left) <= bound
	})
	if len(donors) == 0 {
		return nil
	}
	return slices.MaxFunc(donors, func(a, b *donor) int {
		return cmp.Or(cmp.Compare(p.load(a.owner, a.left), p.load(b.owner, b.left)),
			b.next.Value.(*slot).idleSince.Compare(a.next.Value.(*slot).idleSince))
	})
}
