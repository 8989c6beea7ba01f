// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"thaw.dev/thaw"
)

// reader reads again and again, so long each time, until ctx ends.
func reader(ctx context.Context, p *pace, tenant thaw.TenantID, long time.Duration) *atomic.Int64 {
	var busy atomic.Int64
	go func() {
		for {
			done, err := p.read(ctx, tenant, true)
			if err != nil {
				return
			}
			time.Sleep(long)
			p.opened(tenant, long)
			done()
			busy.Add(int64(long))
		}
	}()
	return &busy
}

// TestReadingAgainHasAPartOfTheProcessors: beyond its budget, however many readers
// and tenants there are; and tenants have equal parts.
func TestReadingAgainHasAPartOfTheProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		p := newPace()
		const many, one = thaw.TenantID("111111111111"), thaw.TenantID("222222222222")
		var busy []*atomic.Int64
		for range 20 {
			busy = append(busy, reader(ctx, p, many, time.Millisecond))
		}
		other := reader(ctx, p, one, time.Millisecond)
		const length = 100 * time.Second
		time.Sleep(length)
		var all time.Duration
		for _, b := range busy {
			all += time.Duration(b.Load())
		}
		mine := time.Duration(other.Load())
		most := 2*(againMost+length*againPerSecond/time.Second) + length*time.Duration(p.again.Usage().Size)/againPart
		if all+mine > most+most/20 || all+mine < most/2 {
			t.Errorf("reading again had %v of %v, where %v is allowed", all+mine, length, most)
		}
		if mine < all*2/3 {
			t.Errorf("one reader had %v, twenty of another tenant %v", mine, all)
		}

		// What is read for the first time does not wait for them.
		begin := time.Now()
		done, err := p.read(ctx, many, false)
		if err != nil || time.Since(begin) != 0 {
			t.Errorf("a first read waited %v, %v", time.Since(begin), err)
		}
		done()
		stop()

		// The budget comes back: what was lent is not taken off it.
		time.Sleep(10 * time.Second)
		if done, err = p.read(t.Context(), many, true); err != nil || p.again.Usage().Held != 0 {
			t.Errorf("a while later a read needs leave: %+v, %v", p.again.Usage(), err)
		}
		done()
	})
}

// TestReadingAgainAlone: what nobody else wants is lent, until somebody starts.
func TestReadingAgainAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		p := newPace()
		busy := reader(ctx, p, "111111111111", time.Millisecond)
		time.Sleep(10 * time.Second)
		if had := time.Duration(busy.Load()); had < 9*time.Second {
			t.Errorf("alone it had %v of 10 s", had)
		}
		f := &imageFile{tenant: "222222222222", pace: p}
		f.start.Store(&startWatch{})
		if _, err := f.Pace(ctx, 0, 4096); err != nil {
			t.Fatal(err)
		}
		before := busy.Load()
		time.Sleep(aloneAfter)
		if had := time.Duration(busy.Load() - before); had > aloneAfter/4 {
			t.Errorf("beside a start it had %v of %v", had, aloneAfter)
		}
	})
}

// TestFirstReadsHaveTurns: one tenant's reads that take long leave room for
// another's.
func TestFirstReadsHaveTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		p := newPace()
		for range p.reads.Usage().Size {
			go func() { _, _ = p.read(ctx, "111111111111", false) }() // never done
		}
		synctest.Wait()
		begin := time.Now()
		done, err := p.read(ctx, "222222222222", false)
		if err != nil || time.Since(begin) != 0 {
			t.Fatalf("it waited %v, %v", time.Since(begin), err)
		}
		done()
	})
}

// TestStartsWaitForNobody: what a start reads has no turns.
func TestStartsWaitForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		p := newPace()
		f := &imageFile{tenant: "111111111111", pace: p}
		for range 2 * p.reads.Usage().Size {
			go func() { _, _ = f.Pace(ctx, 0, 4096) }() // never done
		}
		synctest.Wait()
		if u := p.reads.Usage(); u.Waiting == 0 {
			t.Fatalf("nobody waits: %+v", u)
		}
		f.start.Store(&startWatch{})
		if _, err := f.Pace(ctx, 0, 4096); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSeen: what was read before, in parts of the size of the largest chunk.
func TestSeen(t *testing.T) {
	const size = 200*thaw.MaxChunkBytes + 5
	var s seen
	for i, row := range []struct {
		off  int64
		n    int
		want bool
	}{
		{0, 4096, false},
		{4096, 4096, true},
		{thaw.MaxChunkBytes - 4096, 8192, false},
		{0, 2 * thaw.MaxChunkBytes, true},
		{0, 3 * thaw.MaxChunkBytes, false},
		{size - 1, 1 << 20, false},
		{size - 2, 1, true},
	} {
		if got := s.mark(row.off, row.n, size); got != row.want {
			t.Errorf("row %d: %v", i, got)
		}
	}
}
