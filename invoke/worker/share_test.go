// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

// sharers are the tenants of the tests below, by one letter each.
type sharers struct {
	t    *testing.T
	pool *pool
	gone *[]*slot
}

// share opens a pool for so many tenants.
func share(t *testing.T, number int, change func(*Config)) *sharers {
	t.Helper()
	p, gone := testPool(func(c *Config) {
		c.MaxSandboxes, c.MaxStarts, c.MaxFunctionStarts, c.MaxQueue, c.QueueWait, c.Patience = 16, 16, 100, 100, time.Hour, time.Minute
		c.Weights = func() int { return number }
		change(c)
	})
	return &sharers{t, p, gone}
}

func keyOfTenant(tenant, name string) key { return key{thaw.TenantID(tenant), name, "1", ""} }

// ask acquires in the background.
func (w *sharers) ask(tenant, name string, bytes int64) chan taken {
	out := make(chan taken, 1)
	go func() {
		s, err := w.pool.acquire(w.t.Context(), keyOfTenant(tenant, name), bytes)
		out <- taken{s, err}
	}()
	synctest.Wait()
	return out
}

// get is ask for what is to be had at once.
func (w *sharers) get(tenant, name string, bytes int64) *slot {
	w.t.Helper()
	select {
	case got := <-w.ask(tenant, name, bytes):
		if got.err != nil {
			w.t.Fatalf("%s %s: %v", tenant, name, got.err)
		}
		return got.s
	default:
		w.t.Fatalf("%s %s has to wait: %+v", tenant, name, w.pool.usages())
	}
	return nil
}

// begun is get with the start over.
func (w *sharers) begun(tenant, name string, bytes int64) *slot {
	w.t.Helper()
	s := w.get(tenant, name, bytes)
	w.pool.begun(s)
	return s
}

// idle leaves so many idle slots.
func (w *sharers) idle(tenant, name string, bytes int64, times int) []*slot {
	w.t.Helper()
	var all []*slot
	for range times {
		all = append(all, w.begun(tenant, name, bytes))
	}
	for _, s := range all {
		w.pool.release(s)
	}
	return all
}

// fill takes with one tenant all that it gets, and leaves one waiting.
func (w *sharers) fill(tenant, name string, bytes int64) (got []*slot, waiting chan taken) {
	w.t.Helper()
	for {
		ch := w.ask(tenant, name, bytes)
		select {
		case one := <-ch:
			if one.err != nil {
				w.t.Fatal(one.err)
			}
			got = append(got, one.s)
		default:
			return got, ch
		}
	}
}

// end lets nobody wait any more.
func (w *sharers) end() { w.pool.close(); synctest.Wait() }

// TestStartsByTurns: of those that wait the tenant that uses least has the next
// start, however many of another came before.
func TestStartsByTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 1, func(c *Config) { c.MaxStarts = 2 })
		defer w.end()
		first := w.get("a", "f", 1)
		w.get("a", "g", 1)
		a := w.ask("a", "f", 1)
		for range 5 {
			w.ask("a", "g", 1)
		}
		b, c := w.ask("b", "f", 1), w.ask("c", "f", 1)
		for _, next := range []chan taken{b, c, a} {
			waits(t, next)
			w.pool.begun(first)
			synctest.Wait()
			select {
			case got := <-next:
				first = got.s
			default:
				t.Fatalf("it was not its turn: %+v", w.pool.usages())
			}
		}
	})
}

// TestTurnsGoByWhatIsScarce: who has much of what nobody lacks is not behind those
// that have most of what there is too little of.
func TestTurnsGoByWhatIsScarce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 1, func(c *Config) { c.MaxSandboxes, c.MemoryBytes = 4, 1600<<20 })
		defer w.end()
		small := w.begun("a", "f", 10<<20)
		w.begun("a", "f", 10<<20)
		w.begun("a", "f", 10<<20)
		w.begun("b", "large", 900<<20)
		a, b := w.ask("a", "f", 10<<20), w.ask("b", "f", 10<<20)
		w.pool.drop(small)
		waits(t, a)
		if got := <-b; got.s == nil {
			t.Errorf("%+v", got)
		}
	})
}

// TestFloors: whatever others have taken, in whatever order, a tenant finds its
// floor of slots, memory, starts and the queue.
func TestFloors(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"slots":  func(c *Config) { c.MaxStarts = 100 },
		"memory": func(c *Config) { c.MaxSandboxes, c.MaxStarts, c.MemoryBytes = 100, 100, 16*least[memory] },
		"starts": func(c *Config) { c.MaxSandboxes = 100 },
		"queue":  func(c *Config) { c.MaxSandboxes, c.MaxQueue, c.MaxFunctionQueue = 8, 16, 100 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := share(t, 4, change)
				defer w.end()
				for _, hog := range []string{"a", "b", "c"} {
					got, _ := w.fill(hog, "f", least[memory])
					if name == "queue" {
						for w.pool.mayWait(hog) {
							w.ask(hog, "f", least[memory])
						}
					}
					if hog == "a" && name != "queue" && len(got) != 13 {
						t.Errorf("the first got %d of 16, and 3 others have a floor of 1", len(got))
					}
				}
				w.get("d", "f", least[memory])
				if name == "queue" {
					waits(t, w.ask("d", "f", least[memory]))
				}
			})
		})
	}
}

// mayWait reports whether a tenant may have one more in the queue.
func (p *pool) mayWait(tenant string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := keyOfTenant(tenant, "f")
	return p.fullLocked(p.ownerLocked(k.tenant), k) == nil
}

// TestOneTenantHasEverything: nothing is kept where there is nobody else.
func TestOneTenantHasEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 1, func(c *Config) { c.MemoryBytes = 1600 })
		defer w.end()
		if got, _ := w.fill("a", "f", 100); len(got) != 16 {
			t.Errorf("%d of 16", len(got))
		}
	})
}

// TestIdleIsHeldToTheFloors: idle slots leave the floors of others free, so that
// all of them may be woken at once.
func TestIdleIsHeldToTheFloors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 2, func(*Config) {})
		defer w.end()
		got, _ := w.fill("a", "f", 1)
		for _, s := range got[:10] {
			w.pool.begun(s)
			w.pool.release(s)
		}
		if more, _ := w.fill("a", "g", 1); w.pool.all[slots] != 14 {
			t.Fatalf("%d and %d of 16, and the other has a floor of 2", len(got), len(more))
		}
		w.get("b", "f", 1)
		w.get("b", "f", 1)
	})
}

// TestIdleIsNotTaken: by a tenant that has more than its share.
func TestIdleIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 2, func(*Config) {})
		defer w.end()
		warm := w.idle("b", "f", 1, 3)
		got, _ := w.fill("a", "f", 1)
		if len(got) != 13 || len(*w.gone) != 0 {
			t.Fatalf("a got %d, %d idle ones are gone", len(got), len(*w.gone))
		}
		for range warm {
			if s := w.get("b", "f", 1); !slices.Contains(warm, s) {
				t.Error("not the warm one")
			}
		}
	})
}

// TestIdleIsTakenBack: from the tenant that has most, its longest idle one first,
// by one within its share; and its own before others'.
func TestIdleIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 3, func(*Config) {})
		defer w.end()
		few := w.idle("b", "f", 1, 4)
		many := w.idle("a", "f", 1, 10) // 2 are c's floor
		for range 5 {
			w.get("c", "f", 1)
		}
		if !slices.Equal(*w.gone, many[:3]) {
			t.Fatalf("gone: %v, of %v", *w.gone, many)
		}
		w.get("a", "g", 1)
		if (*w.gone)[3] != many[3] || slices.Contains(*w.gone, few[0]) {
			t.Errorf("not its own went: %v", *w.gone)
		}
	})
}

// TestNothingIsTakenInVain: what is within another's floor makes no room, since it
// would be kept free.
func TestNothingIsTakenInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 3, func(*Config) {})
		defer w.end()
		w.idle("b", "f", 1, 2)
		w.fill("a", "f", 1)
		own := w.begun("c", "f", 1)
		w.get("c", "f", 1)
		time.Sleep(time.Second)
		w.pool.release(own)
		w.get("c", "g", 1)
		if !slices.Equal(*w.gone, []*slot{own}) {
			t.Errorf("%d are gone, and one was to", len(*w.gone))
		}
	})
}

// TestBeyondItsShare: while one waits that would be within its share, who is
// beyond starts nothing, but has its warm slots; and nobody else waits for it.
func TestBeyondItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 1, func(c *Config) { c.MaxSandboxes, c.MaxStarts, c.MemoryBytes = 100, 100, 1600<<20 })
		defer w.end()
		w.idle("a", "warm", 50<<20, 1)
		busy := []*slot{w.get("a", "f", 700<<20), w.get("a", "f", 450<<20)}
		large := w.ask("b", "f", 500<<20)
		waits(t, large)
		more := w.ask("a", "f", 10<<20)
		waits(t, more)
		w.get("a", "warm", 50<<20)
		w.get("c", "f", 10<<20)
		w.pool.drop(busy[1])
		if got := <-large; got.s == nil {
			t.Fatalf("%+v", got)
		}
		if got := <-more; got.s == nil {
			t.Fatalf("%+v", got)
		}
	})
}

// TestWeights: a tenant of weight 3 has three times the floor, and its turn before
// others until it has three times as much.
func TestWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 4, func(c *Config) {
			c.MaxSandboxes, c.MaxStarts = 32, 32
			c.Weight = func(t thaw.TenantID) int { return map[thaw.TenantID]int{"b": 3}[t] }
		})
		defer w.end()
		got, _ := w.fill("a", "f", 1)
		if len(got) != 32-3*2 {
			t.Errorf("a has %d of 32, and b a floor of 6", len(got))
		}
		if got, _ := w.fill("b", "f", 1); len(got) != 6 {
			t.Errorf("b has %d", len(got))
		}
		for range 6 {
			w.ask("b", "f", 1)
		}
		for _, s := range got[:4] {
			w.pool.begun(s)
			w.pool.drop(s)
		}
		synctest.Wait()
		if n := w.pool.owners["b"].used[slots]; n != 10 {
			t.Errorf("b has %d, and was to have the 4 that a gave back", n)
		}
	})
}

// TestTooLargeForATenant: what would never find room is told at once.
func TestTooLargeForATenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 2, func(c *Config) { c.MemoryBytes = 8000 << 20 })
		defer w.end()
		_, err := w.pool.acquire(t.Context(), keyOfTenant("a", "f"), 7001<<20)
		if why, ok := errors.AsType[*Refusal](err); !ok || why.Why != "the function's memory of 7001 MB exceeds the 7000 MB that it may have on this worker" {
			t.Error(err)
		}
		w.get("a", "f", 7000<<20)
	})
}

// TestUsages: what the metrics tell.
func TestUsages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := share(t, 1, func(c *Config) {
			c.MaxSandboxes, c.MaxQueue, c.MaxFunctionQueue, c.QueueWait, c.MemoryBytes = 3, 1, 1, time.Second, 30
		})
		defer w.end()
		w.idle("a", "f", 10, 1)
		w.get("b", "f", 10)
		w.get("b", "f", 10)
		w.get("a", "f", 10)
		w.ask("a", "f", 10)
		time.Sleep(time.Second / 2)
		w.ask("b", "f", 10)
		want := []fair.Usage{
			{Name: "sandboxes", Size: 3, Held: 3, Owners: 2, Waiting: 1, LongestWaiter: time.Second / 2},
			{Name: "memory", Size: 30, Held: 30, Owners: 2},
			{Name: "starts", Size: 16, Held: 2, Owners: 1},
			{Name: "queue", Size: 1, Held: 1, Owners: 1, Refused: 1},
		}
		if got := w.pool.usages(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Second)
		if u := w.pool.usages()[0]; u.Refused != 1 || u.Waited != time.Second || u.Waiting != 0 {
			t.Errorf("%+v", u)
		}
	})
}
