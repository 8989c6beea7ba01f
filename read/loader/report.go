// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/view"
	"thaw.dev/thaw/read/workingset"
)

// Report is what the read path saw of one start. Of a start whose image was
// mounted already it says nothing: all is zero. Reads are those of the image, by
// whichever sandbox, and by the kernel that reads ahead for it.
type Report struct {
	Opening, Opened time.Time // the manifest, by the client
	Mounted         time.Time

	Reads Reads `json:"reads"`
	Ahead Ahead `json:"ahead"`
}

// Reads are the reads of an image while a start was under way.
type Reads struct {
	Count, Bytes int64
	Time         time.Duration // sum of all, however many were under way at a time
	Slowest      time.Duration
	First, Last  time.Time // the begin of the first, the end of the last
	// Data and DataEnd are the begin and the end of the first that asked for
	// more than metadata: the first page of a file that the start needed.
	Data, DataEnd time.Time
	Tiers         []tier.Use // where the chunks came from that no earlier read had opened
}

// Ahead is what was fetched ahead of the reads.
type Ahead struct {
	Begun time.Time // zero where nothing was known of the version
	Ended time.Time // zero where it was still under way at the start's end
	Runs  int       // of blocks, in the working set
	Bytes int64     // of these
	Tiers []tier.Use
}

// startWatch observes the reads of an image during one start. It is safe for
// concurrent use.
type startWatch struct {
	metaBytes    int64
	reads, ahead tier.Tally

	mu   sync.Mutex // guards seen
	seen Report
}

// watch begins to observe a start of an open image. Of two starts at a time the
// later one is observed from then on.
func (i *images) watch(id thaw.ImageID, metaBytes int64) *startWatch {
	w := &startWatch{metaBytes: metaBytes}
	if f, ok := i.get(id); ok {
		f.start.Store(w)
	}
	return w
}

func (i *images) unwatch(id thaw.ImageID, w *startWatch) {
	if f, ok := i.get(id); ok {
		f.start.CompareAndSwap(w, nil)
	}
}

// read is a read of the image that is observed.
func (w *startWatch) read(ctx context.Context, v *view.View, off int64, n int) ([][]byte, error) {
	begin := time.Now()
	pieces, err := v.Read(w.reads.In(ctx), off, n)
	end := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.seen.Reads
	r.Count++
	for _, p := range pieces {
		r.Bytes += int64(len(p))
	}
	r.Time += end.Sub(begin)
	r.Slowest = max(r.Slowest, end.Sub(begin))
	if r.First.IsZero() || begin.Before(r.First) {
		r.First = begin
	}
	if off+int64(n) > w.metaBytes && (r.Data.IsZero() || begin.Before(r.Data)) {
		r.Data, r.DataEnd = begin, end
	}
	r.Last = end
	return pieces, err
}

func (w *startWatch) aheadBegins(set workingset.Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Ahead = Ahead{Begun: time.Now(), Runs: len(set.Runs), Bytes: int64(set.Blocks()) * thaw.BlockBytes}
}

func (w *startWatch) aheadEnds() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Ahead.Ended = time.Now()
}

func (w *startWatch) report() Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.seen
	r.Reads.Tiers, r.Ahead.Tiers = w.reads.Uses(), w.ahead.Uses()
	return r
}
