// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// aheadShare bounds what is opened ahead of a run of chunks read in order: one
	// more for so many. Reads that are not in order open nothing ahead.
	aheadShare = 2
	// aheadMax bounds the chunks that a run is ahead of its reader, to 2 MiB of the
	// largest.
	aheadMax = 8
	// aheadOpening bounds the chunks being opened ahead at a time, of all views.
	aheadOpening = 16
	// runsKept is how many readers of one image are told apart.
	runsKept = 8
)

// Ahead opens the chunks that come next in reads that go through an image in
// order, so that they are fetched, verified and deciphered beside one another
// and before they are asked for. It is shared by the views of a worker. Use
// [NewAhead].
type Ahead struct {
	life  context.Context //nolint:containedctx // the owner's: what is opened ahead ends with it
	group errgroup.Group
}

// NewAhead returns one that ends with ctx; the owner then calls [Ahead.Wait].
func NewAhead(ctx context.Context) *Ahead {
	a := &Ahead{life: ctx}
	a.group.SetLimit(aheadOpening)
	return a
}

// Wait returns when nothing is being opened any more.
func (a *Ahead) Wait() { _ = a.group.Wait() } // its functions return no error

// openAhead opens what a read of a chunk shows to be wanted soon. It waits for
// nothing; what fails is left to the read that needs it. While a start is
// recorded it does nothing: what a first start fetches is counted (bench/touched),
// and runs are the kernel's own readahead more often than a program's way.
func (v *View) openAhead(index int) {
	a := v.options.Ahead
	if a == nil || v.recorder.on.Load() {
		return
	}
	from, to := v.runs.read(index)
	for i := from; i < min(to, v.Chunks()); i++ {
		a.group.TryGo(func() error { // where too many are under way, the read that needs it opens it
			c, err := v.manifest.At(a.life, i)
			if err == nil && !c.Name.IsZero() {
				_, _ = v.options.Plain.get(a.life, c, v.counted(&v.opened, i, v.open))
			}
			return nil
		})
	}
}

// runs notes reads that go through the chunks of an image in order. The zero
// value is ready.
type runs struct {
	mu sync.Mutex
	// kept are the runs, the one that went on last at the front.
	kept [runsKept]run
}

// run is a sequence of chunks that were read in order.
type run struct {
	length int // chunks; 0 where there is none
	next   int // index of the chunk behind its last
	opened int // index of the chunk behind the last that was opened ahead
}

// read notes that a chunk is read and returns the indexes of those to open
// ahead, from the first up to but not including the last.
func (r *runs) read(index int) (from, to int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := run{length: 1, next: index + 1, opened: index + 1}
	at := runsKept - 1
	for i, old := range r.kept {
		// A chunk takes some reads, which are of the same run.
		if old.length == 0 || index != old.next-1 && index != old.next {
			continue
		}
		now = old
		if index == old.next {
			now.length++
			now.next++
		}
		at = i
		break
	}
	from = max(now.next, now.opened)
	to = now.next + min(now.length/aheadShare, aheadMax)
	now.opened = max(from, to)
	copy(r.kept[1:at+1], r.kept[:at])
	r.kept[0] = now
	return from, to
}
