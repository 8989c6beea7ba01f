// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"thaw.dev/thaw"
)

// The pool holds slots and time, no processes: it is tested on its own in a
// bubble, where a wait costs nothing and a goroutine left behind is a failure.

func testPool(change func(*Config)) (*pool, *[]*slot) {
	limits := Default()
	limits.MaxSandboxes, limits.MaxStarts, limits.MaxQueue = 2, 2, 10
	limits.QueueWait, limits.FinishWait, limits.FreezeAfter = time.Second, 20*time.Millisecond, time.Hour
	if change != nil {
		change(&limits)
	}
	var gone []*slot
	return newPool(limits, func(s *slot) {
		if s.timer != nil {
			s.timer.Stop()
		}
		gone = append(gone, s)
	}), &gone
}

func keyOf(name string) key { return key{"123456789012", name, "1", ""} }

// taken is what an acquire in the background came to.
type taken struct {
	s   *slot
	err error
}

func acquireSoon(ctx context.Context, p *pool, name string, bytes int64) chan taken {
	out := make(chan taken, 1)
	go func() {
		s, err := p.acquire(ctx, keyOf(name), bytes)
		out <- taken{s, err}
	}()
	synctest.Wait()
	return out
}

func mustTake(t *testing.T, p *pool, name string, bytes int64) *slot {
	t.Helper()
	s, err := p.acquire(t.Context(), keyOf(name), bytes)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func waits(t *testing.T, ch chan taken) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-ch:
		t.Fatalf("it did not wait: %+v", got)
	default:
	}
}

func TestPoolReusesTheLastUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testPool(nil)
		a, b := mustTake(t, p, "f", 1), mustTake(t, p, "f", 1)
		p.begun(a)
		p.begun(b)
		p.release(a)
		p.release(b)
		if got := mustTake(t, p, "f", 1); got != b {
			t.Fatal("not the one used last")
		}
		p.release(b)
		p.close()
	})
}

// TestPoolWaitsForAFinishingSlot: as many as are about to be free, and not for
// long.
func TestPoolWaitsForAFinishingSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testPool(nil)
		a := mustTake(t, p, "f", 1)
		p.begun(a)
		p.answered(a)
		first := acquireSoon(t.Context(), p, "f", 1)
		waits(t, first)
		second := acquireSoon(t.Context(), p, "f", 1) // one slot finishes, two want it
		other := <-second
		if other.s == nil || other.s == a {
			t.Fatalf("the second must start one: %+v", other)
		}
		p.begun(other.s)
		p.release(a)
		if got := <-first; got.s != a {
			t.Fatalf("%+v", got)
		}
		p.drop((<-acquireSoon(t.Context(), func() *pool { p.release(a); return p }(), "f", 1)).s)

		b := mustTake(t, p, "f", 1)
		p.begun(b)
		p.answered(b)
		begin := time.Now()
		late := acquireSoon(t.Context(), p, "g", 1)
		waits(t, late) // both places are taken
		p.drop(b)
		if got := <-late; got.s == nil || time.Since(begin) != 0 {
			t.Fatalf("%+v after %v", got, time.Since(begin))
		}
		p.close()
	})
}

func TestPoolStartsAfterTheFinishWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testPool(nil)
		a := mustTake(t, p, "f", 1)
		p.begun(a)
		p.answered(a)
		begin := time.Now()
		got := <-acquireSoon(t.Context(), p, "f", 1)
		if got.s == nil || got.s == a || time.Since(begin) != 20*time.Millisecond {
			t.Fatalf("%+v after %v", got, time.Since(begin))
		}
	})
}

// TestPoolPassesWhatDoesNotFit: one that is too large to start now is passed by
// those that fit, but not for ever, and always by whoever finds a slot of its own.
func TestPoolPassesWhatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testPool(func(c *Config) {
			c.MaxSandboxes, c.MemoryBytes, c.MaxStarts, c.QueueWait, c.Patience = 10, 100, 10, time.Hour, time.Minute
		})
		a := mustTake(t, p, "a", 60)
		b := mustTake(t, p, "b", 20)
		large := acquireSoon(t.Context(), p, "large", 80)
		small := <-acquireSoon(t.Context(), p, "small", 10)
		if small.s == nil {
			t.Fatalf("%+v", small)
		}
		time.Sleep(time.Minute)
		late := acquireSoon(t.Context(), p, "late", 10)
		own := acquireSoon(t.Context(), p, "b", 20)
		waits(t, late)
		p.release(b)
		if got := <-own; got.s != b {
			t.Fatalf("%+v", got)
		}
		p.drop(small.s)
		waits(t, late)
		p.release(a) // idle now: evicted for the large one
		if got := <-large; got.s == nil {
			t.Fatalf("%+v", got)
		}
		waits(t, late) // 20 and 80 are taken
		p.drop(b)
		if got := <-late; got.s == nil {
			t.Fatalf("%+v", got)
		}
		p.close()
	})
}

// TestPoolGivesUp: a waiter that leaves lets those behind it through.
func TestPoolGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testPool(func(c *Config) { c.MaxSandboxes, c.MemoryBytes, c.MaxStarts, c.Patience = 10, 100, 10, 0 })
		a := mustTake(t, p, "a", 60)
		p.begun(a)
		ctx, cancel := context.WithCancel(t.Context())
		large := acquireSoon(ctx, p, "large", 80)
		small := acquireSoon(t.Context(), p, "small", 10)
		waits(t, small)
		cancel()
		if got := <-large; thaw.KindOf(got.err) != thaw.Canceled {
			t.Fatalf("%+v", got)
		}
		if got := <-small; got.s == nil {
			t.Fatalf("%+v", got)
		}
		begin := time.Now()
		got := <-acquireSoon(t.Context(), p, "large", 80)
		if _, told := errors.AsType[*Refusal](got.err); !told || thaw.KindOf(got.err) != thaw.Throttled || time.Since(begin) != time.Second {
			t.Fatalf("%+v after %v", got, time.Since(begin))
		}
		if s := p.stats(); s.Waiting != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// TestPoolBoundsStarts: a waiter takes what comes first, a leave to start or a
// slot that others gave back.
func TestPoolBoundsStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testPool(func(c *Config) { c.MaxSandboxes, c.MaxStarts = 10, 1 })
		a := mustTake(t, p, "f", 1)
		first, second := acquireSoon(t.Context(), p, "f", 1), acquireSoon(t.Context(), p, "f", 1)
		waits(t, first)
		p.begun(a)
		got := <-first
		if got.s == nil || got.s == a {
			t.Fatalf("%+v", got)
		}
		waits(t, second)
		p.release(a)
		if got := <-second; got.s != a {
			t.Fatalf("%+v", got)
		}
	})
}

// TestPoolBoundsAFunctionsStarts: a function beyond its own bounds waits, or is
// refused, and is in nobody's way.
func TestPoolBoundsAFunctionsStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := testPool(func(c *Config) {
			c.MaxSandboxes, c.MaxStarts, c.MaxFunctionStarts, c.MaxFunctionQueue = 10, 3, 1, 1
		})
		a := mustTake(t, p, "f", 1)
		own := acquireSoon(t.Context(), p, "f", 1)
		waits(t, own)
		if _, err := p.acquire(t.Context(), keyOf("f"), 1); thaw.KindOf(err) != thaw.Throttled {
			t.Fatalf("a second one of the function may wait: %v", err)
		}
		if got := <-acquireSoon(t.Context(), p, "g", 1); got.s == nil { // although one waits that came before
			t.Fatalf("%+v", got)
		}
		waits(t, own)
		p.begun(a)
		if got := <-own; got.s == nil || got.s == a {
			t.Fatalf("%+v", got)
		}
		if n := p.functions[keyOf("f").function()]; n.starting != 1 || n.waiting != 0 {
			t.Fatalf("%+v counted", n)
		}
	})
}

func TestPoolRetires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, gone := testPool(nil)
		idle, busy := mustTake(t, p, "f", 1), mustTake(t, p, "f", 1)
		p.begun(idle)
		p.begun(busy)
		p.release(idle)
		waiting := acquireSoon(t.Context(), p, "f", 1)
		if got := <-waiting; got.s != idle {
			t.Fatalf("%+v", got)
		}
		p.release(idle)
		p.retire("123456789012", "other")
		if len(*gone) != 0 {
			t.Fatal("another function's slots are gone")
		}
		p.retire("123456789012", "f")
		if len(*gone) != 1 || (*gone)[0] != idle {
			t.Fatalf("%v", *gone)
		}
		p.release(busy)
		if len(*gone) != 2 || p.stats() != (Stats{}) {
			t.Fatalf("%v %+v", *gone, p.stats())
		}
	})
}

func TestPoolReaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, gone := testPool(func(c *Config) { c.IdleTimeout = time.Minute })
		a, b := mustTake(t, p, "f", 1), mustTake(t, p, "g", 1)
		p.begun(a)
		p.begun(b)
		p.release(a)
		time.Sleep(30 * time.Second)
		p.release(b)
		p.reap(time.Now())
		if len(*gone) != 0 {
			t.Fatal("reaped too early")
		}
		time.Sleep(30 * time.Second)
		p.reap(time.Now())
		if len(*gone) != 1 || (*gone)[0] != a {
			t.Fatalf("%v", *gone)
		}
		p.close()
	})
}

func TestPoolCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, gone := testPool(func(c *Config) { c.MaxSandboxes = 1 })
		a := mustTake(t, p, "f", 1)
		waiting := acquireSoon(t.Context(), p, "g", 1)
		p.close()
		if got := <-waiting; thaw.KindOf(got.err) != thaw.Unavailable {
			t.Fatalf("%+v", got)
		}
		if _, err := p.acquire(t.Context(), keyOf("f"), 1); thaw.KindOf(err) != thaw.Unavailable {
			t.Fatal(err)
		}
		p.begun(a)
		p.release(a)
		if len(*gone) != 1 {
			t.Fatal("a slot that came back after close lives on")
		}
	})
}
