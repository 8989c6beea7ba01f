// SPDX-License-Identifier: Apache-2.0

package ahead

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestKeepsAhead: what is taken is replaced after the pause, in order; what is
// left at the end is the caller's.
func TestKeepsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		p := New(Options[int]{Size: 2, Pause: time.Second, Failed: func(err error) { t.Error(err) },
			Make: func(context.Context) (int, error) { made++; return made, nil }})
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		for want := 1; want <= 2; want++ {
			if got, ok := p.Take(); !ok || got != want {
				t.Errorf("took %d, %v, not %d", got, ok, want)
			}
		}
		if got, ok := p.Take(); ok {
			t.Errorf("took %d of an empty pool", got)
		}
		time.Sleep(time.Second - 1)
		if synctest.Wait(); made != 2 {
			t.Errorf("%d were made before the pause was over", made)
		}
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := p.Close(); !slices.Equal(left, []int{3, 4}) {
			t.Errorf("left were %v", left)
		}
		if _, ok := p.Take(); ok {
			t.Error("a closed pool gives something")
		}
	})
}

// TestMakesAgain: a failure is told once, and tried again until it works.
func TestMakesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries, told := 0, 0
		p := New(Options[int]{Size: 1, Pause: time.Second, Failed: func(error) { told++ },
			Make: func(context.Context) (int, error) {
				if tries++; tries < 4 {
					return 0, errors.New("not yet")
				}
				return tries, nil
			}})
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if tries != 4 || told != 1 {
			t.Errorf("%d tries, told %d times", tries, told)
		}
		p.Close()
	})
}

// TestCloseEndsMake: a thing that is being made when the pool closes is not lost.
func TestCloseEndsMake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options[int]{Size: 1, Pause: time.Second, Failed: func(err error) { t.Error(err) },
			Make: func(ctx context.Context) (int, error) { <-ctx.Done(); return 7, nil }})
		synctest.Wait()
		if left := p.Close(); !slices.Equal(left, []int{7}) {
			t.Errorf("left were %v", left)
		}
	})
}
