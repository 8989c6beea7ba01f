// SPDX-License-Identifier: Apache-2.0

package fair

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

// queue notes in which order requests were served.
type queue struct {
	mu       sync.Mutex // guards what follows
	got      []string
	releases []func()
}

// wait has an owner wait for n units, until it has them or is blocked.
func (q *queue) wait(t *testing.T, p *Pool, name string, n int64) {
	t.Helper()
	go func() {
		release, err := p.Acquire(t.Context(), name, n)
		if err != nil {
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.got = append(q.got, name)
		q.releases = append(q.releases, release)
	}()
	synctest.Wait()
}

func (q *queue) served() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.got)
}

// releaseAll gives back what was served, in order, and so serves the others.
func (q *queue) releaseAll() {
	for i := 0; i < len(q.served()); i++ {
		q.mu.Lock()
		release := q.releases[i]
		q.mu.Unlock()
		release()
		synctest.Wait()
	}
}

// TestTurns: one owner with many requests before delays another's single one
// by no more than the one that is under way.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Name: "x", Size: 1})
		var q queue
		for range 5 {
			q.wait(t, p, "greedy", 1)
		}
		q.wait(t, p, "other", 1)
		q.wait(t, p, "third", 1)
		q.releaseAll()
		if want := []string{"greedy", "other", "third", "greedy", "greedy", "greedy", "greedy"}; !slices.Equal(q.served(), want) {
			t.Errorf("served %v, not %v", q.served(), want)
		}
		if u := p.Usage(); u.Held != 0 || u.Owners != 0 || u.Waiting != 0 {
			t.Errorf("left over: %+v", u)
		}
	})
}

// TestPatience: what does not fit is passed by what fits, and then no longer.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Name: "x", Size: 10, Patience: time.Second})
		first, _ := p.TryAcquire("a", 8)
		var q queue
		q.wait(t, p, "large", 5)
		q.wait(t, p, "small", 1)
		if !slices.Equal(q.served(), []string{"small"}) {
			t.Fatalf("served %v: the small one fits", q.served())
		}
		time.Sleep(time.Second)
		q.wait(t, p, "late", 1)
		if !slices.Equal(q.served(), []string{"small"}) {
			t.Fatalf("served %v: room is kept for the large one now", q.served())
		}
		first()
		synctest.Wait()
		if !slices.Equal(q.served(), []string{"small", "large", "late"}) && !slices.Equal(q.served(), []string{"small", "late", "large"}) {
			t.Fatalf("served %v", q.served())
		}
		q.releaseAll()
	})
}

// TestKeepFree: however many owners take all that they get, the next gets some.
func TestKeepFree(t *testing.T) {
	p := New(Options{Name: "x", Size: 900, KeepFree: true})
	for i := range 8 {
		for {
			if _, ok := p.TryAcquire(fmt.Sprint(i), 1); !ok {
				break
			}
		}
	}
	if _, ok := p.TryAcquire("victim", 1); !ok {
		t.Errorf("nothing was kept free: %+v", p.Usage())
	}
	alone := New(Options{Name: "x", Size: 100, KeepFree: true})
	n := 0
	for ; ; n++ {
		if _, ok := alone.TryAcquire("one", 1); !ok {
			break
		}
	}
	if n != 50 {
		t.Errorf("one owner alone got %d of 100, not half", n)
	}
}

// TestBounds: how much an owner may hold, and how many may wait.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Name: "x", Size: 4, PerOwner: 2, Waiters: 2, OwnerWaiters: 1})
		if _, err := p.Acquire(t.Context(), "a", 3); thaw.KindOf(err) != thaw.TooLarge {
			t.Errorf("more than it may ever hold: %v", err)
		}
		held, _ := p.TryAcquire("a", 2)
		var q queue
		q.wait(t, p, "a", 1) // waits for itself
		q.wait(t, p, "b", 2) // and keeps nobody out
		if !slices.Equal(q.served(), []string{"b"}) {
			t.Errorf("served %v", q.served())
		}
		if _, err := p.Acquire(t.Context(), "a", 1); thaw.KindOf(err) != thaw.Throttled {
			t.Errorf("a second that waits: %v", err)
		}
		q.wait(t, p, "c", 1)
		if _, err := p.Acquire(t.Context(), "d", 1); thaw.KindOf(err) != thaw.Throttled {
			t.Errorf("a third of two that may wait: %v", err)
		}
		if u := p.Usage(); u.Refused != 2 || u.Waiting != 2 {
			t.Errorf("%+v", u)
		}
		held()
		synctest.Wait()
		q.releaseAll()
		if len(q.served()) != 3 {
			t.Errorf("served %v", q.served())
		}
	})
}

// TestGivesUp: who gives up while it waits leaves nothing behind, also in the
// moment in which it was served.
func TestGivesUp(t *testing.T) {
	p := New(Options{Name: "x", Size: 3, PerOwner: 2, Patience: time.Microsecond})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 500 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
				if release, err := p.Acquire(ctx, fmt.Sprint(i%4), int64(i%2+1)); err == nil {
					release()
					release() // does nothing
				}
				cancel()
			}
		})
	}
	group.Wait()
	if u := p.Usage(); u.Held != 0 || u.Owners != 0 || u.Waiting != 0 {
		t.Errorf("left over: %+v", u)
	}
}

// TestNeverMoreThanThereIs holds for any order of requests.
func TestNeverMoreThanThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Name: "x", Size: rapid.Int64Range(1, 20).Draw(t, "size"), KeepFree: rapid.Bool().Draw(t, "keep free")}
		o.PerOwner = rapid.Int64Range(1, o.Size).Draw(t, "per owner")
		p := New(o)
		var releases []func()
		held := map[string]int64{}
		var all int64
		for range 50 {
			if len(releases) > 0 && rapid.Bool().Draw(t, "release") {
				releases[0]()
				releases = releases[1:]
				continue
			}
			name, n := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "owner"), rapid.Int64Range(1, 5).Draw(t, "n")
			if release, ok := p.TryAcquire(name, n); ok {
				held[name] += n
				all += n
				releases = append(releases, func() { release(); held[name] -= n; all -= n })
			}
			if u := p.Usage(); u.Held != all || all > o.Size || held[name] > o.PerOwner {
				t.Fatalf("%s holds %d, all %d, the pool says %+v", name, held[name], all, u)
			}
		}
	})
}

// TestWanted: only another owner's wait is a reason to give way.
func TestWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Name: "x", Size: 1})
		var q queue
		q.wait(t, p, "a", 1)
		q.wait(t, p, "a", 1)
		if p.Wanted("a") {
			t.Error("a gives way to itself")
		}
		q.wait(t, p, "b", 1)
		if !p.Wanted("a") {
			t.Error("a does not give way to b")
		}
		q.releaseAll()
		if p.Wanted("a") || p.Wanted("b") {
			t.Error("nobody waits")
		}
	})
}
