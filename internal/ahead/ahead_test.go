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

func failed(t *testing.T) func(error) bool {
	return func(err error) bool { t.Error(err); return true }
}

// TestKeepsAhead: what is taken is replaced after the pause, in order; what is
// left at the end is the caller's.
func TestKeepsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		p := New(Options[int]{Size: 2, Pause: time.Second, Failed: failed(t),
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

// TestMakesAgain: what fails is tried again until it works, and told of until that
// is enough.
func TestMakesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, tries, told := time.Now(), 0, 0
		p := New(Options[int]{Size: 1, Pause: time.Second, Retry: time.Minute, Failed: func(error) bool { told++; return told == 2 },
			Make: func(context.Context) (int, error) {
				if tries++; tries < 4 {
					return 0, errors.New("not yet")
				}
				return tries, nil
			}})
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); tries != 4 || told != 2 || took < 3*time.Minute {
			t.Errorf("%d tries within %v, told %d times", tries, took, told)
		}
		p.Close()
	})
}

// TestCloseEndsMake: a thing that is being made when the pool closes is not lost.
func TestCloseEndsMake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options[int]{Size: 1, Pause: time.Second, Failed: failed(t),
			Make: func(ctx context.Context) (int, error) { <-ctx.Done(); return 7, nil }})
		synctest.Wait()
		if left := p.Close(); !slices.Equal(left, []int{7}) {
			t.Errorf("left were %v", left)
		}
	})
}
