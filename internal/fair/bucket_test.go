// SPDX-License-Identifier: Apache-2.0

package fair

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBucket: what it holds is had at once, the rest at its rate, by all who
// wait together; it never holds more, however long nobody asks.
func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(10, 5)
		for _, row := range []struct {
			n    int64
			want time.Duration
		}{{5, 0}, {1, 100 * time.Millisecond}, {2, 300 * time.Millisecond}} {
			if got := b.Spend(row.n); got != row.want {
				t.Errorf("%d units: %v, want %v", row.n, got, row.want)
			}
		}
		time.Sleep(time.Hour)
		if got := b.Spend(6); got != 100*time.Millisecond {
			t.Errorf("one more than it holds: %v", got)
		}
		b.Give(100)
		if got := b.Spend(6); got != 100*time.Millisecond {
			t.Errorf("one more than it holds, after a gift: %v", got)
		}
	})
}

// TestPause: who waits goes on when its units are there, or when it is
// told to.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, done := NewBucket(2, 1), make(chan struct{})
		begin := time.Now()
		for range 3 {
			if !Pause(done, b.Spend(1)) {
				t.Fatal("nobody said that it was over")
			}
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("three units took %v", took)
		}
		close(done)
		if Pause(done, b.Spend(100)) || time.Since(begin) != time.Second {
			t.Errorf("it waited on to %v", time.Since(begin))
		}
	})
}
