// SPDX-License-Identifier: Apache-2.0

package flight_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/flight"
)

func TestOneFillForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string, int](nil)
		var fills, shared atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				v, s, err := g.Do(t.Context(), "k", func(context.Context) (int, error) {
					fills.Add(1)
					time.Sleep(time.Second)
					return 7, nil
				})
				if v != 7 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
				if s {
					shared.Add(1)
				}
			})
		}
		wg.Wait()
		if fills.Load() != 1 || shared.Load() != 99 {
			t.Errorf("%d fills, %d shared", fills.Load(), shared.Load())
		}
	})
}

// A failure is its caller's only, and the turns go one by one.
func TestFailureHandsOverOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string, int](nil)
		var running, fills, failed atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, _, err := g.Do(t.Context(), "k", func(context.Context) (int, error) {
					if running.Add(1) != 1 {
						t.Error("two fills at once")
					}
					defer running.Add(-1)
					time.Sleep(time.Second)
					if fills.Add(1) <= 3 {
						return 0, errors.New("no")
					}
					return 1, nil
				})
				if err != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if fills.Load() != 4 || failed.Load() != 3 {
			t.Errorf("%d fills, %d failures; want 4 and 3", fills.Load(), failed.Load())
		}
	})
}

func TestFinalErrorIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string, int](func(err error) bool { return thaw.KindOf(err) == thaw.Corrupt })
		var fills, failed atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, _, err := g.Do(t.Context(), "k", func(context.Context) (int, error) {
					fills.Add(1)
					time.Sleep(time.Second)
					return 0, thaw.Errorf("get", thaw.Corrupt, "rotten")
				})
				if thaw.KindOf(err) == thaw.Corrupt {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if fills.Load() != 1 || failed.Load() != 10 {
			t.Errorf("%d fills, %d failures; want 1 and 10", fills.Load(), failed.Load())
		}
	})
}

func TestWaiterKeepsItsOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string, int](nil)
		var wg sync.WaitGroup
		wg.Go(func() { // the first filler is cancelled after a second
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, _, err := g.Do(ctx, "k", sleepThen(10*time.Second, 1)); thaw.KindOf(err) != thaw.Unavailable {
				t.Errorf("the filler got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { // gives up while it waits
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, _, err := g.Do(ctx, "k", sleepThen(0, 2)); thaw.KindOf(err) != thaw.Unavailable {
				t.Errorf("the impatient waiter got %v", err)
			}
		})
		wg.Go(func() { // is not taken along by either
			if v, _, err := g.Do(t.Context(), "k", sleepThen(time.Second, 3)); v != 3 || err != nil {
				t.Errorf("the patient waiter got %d, %v", v, err)
			}
		})
		wg.Wait()
	})
}

func sleepThen(d time.Duration, v int) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		select {
		case <-time.After(d):
			return v, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func TestPanicReleasesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string, int](nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _, _ = g.Do(t.Context(), "k", func(context.Context) (int, error) {
				time.Sleep(time.Second)
				panic("boom")
			})
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() {
				if _, _, err := g.Do(t.Context(), "k", sleepThen(0, 1)); thaw.KindOf(err) != thaw.Internal {
					t.Errorf("a waiter got %v", err)
				}
			})
		}
		wg.Wait()
		if v, _, err := g.Do(t.Context(), "k", sleepThen(0, 9)); v != 9 || err != nil {
			t.Errorf("the key is stuck: %d, %v", v, err)
		}
	})
}
