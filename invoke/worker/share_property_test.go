// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

// machine does at random what workers do with a pool, without a wait.
type machine struct {
	t       *rapid.T
	pool    *pool
	tenants []thaw.TenantID
	leased  []*slot
	waiting []*waiter
}

func newMachine(t *rapid.T) *machine {
	m := &machine{t: t, tenants: []thaw.TenantID{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "tenants")]}
	c := Default()
	c.MaxSandboxes, c.MaxStarts = rapid.IntRange(1, 16).Draw(t, "sandboxes"), rapid.IntRange(1, 16).Draw(t, "starts")
	c.MaxQueue, c.MaxFunctionQueue = rapid.IntRange(0, 10).Draw(t, "queue"), rapid.IntRange(0, 10).Draw(t, "function's queue")
	c.MaxFunctionStarts, c.MemoryBytes = rapid.IntRange(1, 8).Draw(t, "function's starts"), rapid.Int64Range(8, 40).Draw(t, "memory")*least[memory]
	c.FreezeAfter = time.Hour
	c.Patience = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "patience")
	heavy := rapid.IntRange(1, 3).Draw(t, "weight of a")
	c.Weight = func(t thaw.TenantID) int { return map[thaw.TenantID]int{"a": heavy}[t] }
	c.Weights = func() int { return len(m.tenants) - 1 + heavy }
	m.pool = newPool(c, func(s *slot) {
		if s.timer != nil {
			s.timer.Stop()
		}
	})
	return m
}

// key returns a function of a tenant; its name says its size.
func (m *machine) key() (key, int64) {
	n := rapid.IntRange(1, 3).Draw(m.t, "function")
	return keyOfTenant(string(rapid.SampledFrom(m.tenants).Draw(m.t, "tenant")), itoa(n)), int64(n*n) * least[memory]
}

// one takes a random one out of a list.
func one[T any](t *rapid.T, list *[]T) (x T, ok bool) {
	if len(*list) == 0 {
		return x, false
	}
	i := rapid.IntRange(0, len(*list)-1).Draw(t, "which")
	x = (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return x, true
}

func (m *machine) step() {
	switch rapid.SampledFrom([]string{"ask", "ask", "ask", "begun", "answered", "end", "give up", "unhold", "retire", "reap"}).Draw(m.t, "step") {
	case "ask":
		k, bytes := m.key()
		m.pool.mu.Lock()
		w, s, err := m.pool.admitLocked(k, bytes)
		m.pool.mu.Unlock()
		switch {
		case s != nil:
			m.leased = append(m.leased, s)
		case w != nil:
			m.waiting = append(m.waiting, w)
		case thaw.KindOf(err) != thaw.Throttled:
			m.t.Fatal(err)
		}
	case "begun":
		if len(m.leased) > 0 {
			m.pool.begun(m.leased[rapid.IntRange(0, len(m.leased)-1).Draw(m.t, "which")])
		}
	case "answered":
		if len(m.leased) > 0 {
			if s := m.leased[rapid.IntRange(0, len(m.leased)-1).Draw(m.t, "which")]; !s.starting && !s.finishing {
				m.pool.answered(s)
			}
		}
	case "end":
		if s, ok := one(m.t, &m.leased); ok {
			m.end(s, rapid.Bool().Draw(m.t, "well"))
		}
	case "give up":
		if w, ok := one(m.t, &m.waiting); ok {
			m.giveUp(w)
		}
	case "unhold":
		if len(m.waiting) > 0 {
			m.pool.mu.Lock()
			m.pool.unholdLocked(m.waiting[rapid.IntRange(0, len(m.waiting)-1).Draw(m.t, "which")])
			m.pool.mu.Unlock()
		}
	case "retire":
		k, _ := m.key()
		m.pool.retire(k.tenant, k.name)
	case "reap":
		m.pool.reap(time.Now().Add(time.Hour))
	}
	m.receive()
}

func (m *machine) end(s *slot, well bool) {
	m.pool.begun(s)
	if well {
		m.pool.release(s)
		return
	}
	m.pool.drop(s)
}

func (m *machine) giveUp(w *waiter) {
	gone, cancel := context.WithCancel(m.t.Context())
	cancel()
	if s, err := m.pool.giveUp(gone, w); err == nil {
		m.leased = append(m.leased, s)
	}
}

// receive takes what those who wait have got.
func (m *machine) receive() {
	m.waiting = slices.DeleteFunc(m.waiting, func(w *waiter) bool {
		select {
		case s := <-w.got:
			m.leased = append(m.leased, s)
			return true
		default:
			return false
		}
	})
}

// check holds the pool's figures against what there is, and against its bounds.
func (m *machine) check() {
	p := m.pool
	var all, used amount
	of := map[thaw.TenantID]amount{}
	startsOf := map[function]int{}
	for s := range p.live {
		all.add(s.size)
		if s.idle {
			continue
		}
		more := s.size
		if s.starting {
			more[starts]++
			startsOf[s.key.function()]++
		}
		mine := of[s.key.tenant]
		mine.add(more)
		of[s.key.tenant] = mine
		used.add(more)
	}
	for _, w := range m.waiting {
		mine := of[w.line.key.tenant]
		mine[places]++
		of[w.line.key.tenant] = mine
		used[places]++
	}
	if all != p.all || used != p.used {
		m.t.Fatalf("%v and %v used are counted as %v, %v", all, used, p.all, p.used)
	}
	for name, o := range p.owners {
		if o.used != of[name] {
			m.t.Fatalf("%s has %v, counted as %v", name, of[name], o.used)
		}
	}
	for i, n := range all {
		if n > p.size[i] || used[i] > p.size[i] {
			m.t.Fatalf("%v used of %v, %v", used, all, p.size)
		}
	}
	for _, kind := range []int{slots, memory} { // weights are known, so floors are
		tenants := int64(p.limits.Weights())
		missing := tenants * p.floor(kind, tenants)
		if missing > p.size[kind]/2 {
			continue
		}
		for _, o := range p.owners {
			missing -= min(o.all[kind], o.weight*p.floor(kind, tenants))
		}
		if all[kind]+missing > p.size[kind] {
			m.t.Fatalf("%v of %v are taken, and %d of %d are kept", all, p.size, missing, kind)
		}
	}
	for f, n := range startsOf {
		if n > p.limits.MaxFunctionStarts {
			m.t.Fatalf("%d starts of %v", n, f)
		}
	}
	m.checkWaiting()
}

// checkWaiting shows for each that waits what is in its way.
func (m *machine) checkWaiting() {
	p := m.pool
	for _, w := range m.waiting {
		o, l := w.line.owner, w.line
		wanted := o.all
		wanted.add(l.size)
		wanted[starts] = o.used[starts] + 1
		fits := p.used[slots] < p.size[slots] && p.used[memory]+l.size[memory] <= p.size[memory] && p.used[starts] < p.size[starts]
		if len(p.idle[l.key]) > 0 {
			m.t.Fatalf("%v waits, and %d of it are idle", l.key, len(p.idle[l.key]))
		}
		if w.held || p.countsOf(l.key).starting >= p.limits.MaxFunctionStarts {
			continue
		}
		if len(m.tenants) == 1 && fits && p.limits.Patience > 0 {
			m.t.Fatalf("%v waits although it is alone, uses %v of %v and fits", l.key, p.used, p.size)
		}
		tenants, floored, kept := p.tenants(o), true, true
		for i := range places {
			floor := p.floor(i, tenants)
			floored = floored && wanted[i] <= o.weight*floor
			kept = kept && tenants*floor <= p.size[i]/2
		}
		passed := p.limits.Patience > 0 || o.used[places] == 1 // or room is kept for another of its own
		if floored && kept && passed {
			m.t.Fatalf("%v waits although it would have %v, which is kept for it; %v used of %v", l.key, wanted, p.used, p.size)
		}
	}
}

// TestPoolKeepsItsPromises for any order of events: bounds are never exceeded,
// who is alone waits for nothing that is free, who is within its floor never
// waits, and nothing is left over.
func TestPoolKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			m.step()
			m.check()
		}
		for len(m.waiting) > 0 || len(m.leased) > 0 {
			for s, ok := one(t, &m.leased); ok; s, ok = one(t, &m.leased) {
				m.end(s, false)
			}
			m.receive()
			if w, ok := one(t, &m.waiting); ok {
				m.giveUp(w)
			}
			m.receive()
			m.check()
		}
		m.pool.reap(time.Now().Add(time.Hour))
		if p := m.pool; len(p.owners)+len(p.lines)+len(p.functions)+len(p.live)+len(p.idle)+len(p.finishing) > 0 {
			t.Fatalf("left over: %+v", p)
		}
	})
}
