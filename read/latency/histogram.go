// SPDX-License-Identifier: Apache-2.0

// Package latency counts durations in buckets fine enough to draw a
// distribution from. It knows no clock: callers measure.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Sixteen buckets for each doubling, from 64 ns to about 69 s: a bucket is at
// most a sixteenth wide, and so a quantile read from them is off by no more.
const (
	stepBits    = 4
	steps       = 1 << stepBits
	firstBits   = 6 // durations below 64 ns are in the first bucket
	doublings   = 30
	bucketCount = doublings*steps + 2 // the first, and the last for all above
)

// Histogram counts durations in fine buckets. The zero value is ready. It is
// safe for concurrent use.
type Histogram struct {
	counts [bucketCount]atomic.Int64
	sum    atomic.Int64 // nanoseconds
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	ns := max(d.Nanoseconds(), 0)
	h.counts[bucketOf(ns)].Add(1)
	h.sum.Add(ns)
}

func bucketOf(ns int64) int {
	exp := bits.Len64(uint64(ns)) - 1
	if exp < firstBits {
		return 0
	}
	step := int(ns>>(exp-stepBits)) & (steps - 1) // the bits after the first
	return min(1+(exp-firstBits)*steps+step, bucketCount-1)
}

// upper is the least number of nanoseconds above bucket i; of the last, which
// has none, where it begins.
func upper(i int) int64 {
	i = min(i, bucketCount-2)
	return int64(steps+i%steps) << (firstBits - stepBits + i/steps)
}

// Snapshot is a histogram at one moment.
type Snapshot struct {
	Count    int64    `json:"count"`
	SumNanos int64    `json:"sum_ns"`
	Buckets  []Bucket `json:"buckets,omitempty"` // ascending; empty ones left out
}

// Bucket counts the durations below a bound and at least the bound before it in
// the full scale of the histogram.
type Bucket struct {
	BelowNanos int64 `json:"below_ns"`
	Count      int64 `json:"count"`
}

// Snapshot returns the counts so far. Durations counted meanwhile may be
// missing from it in part.
func (h *Histogram) Snapshot() Snapshot {
	l := Snapshot{SumNanos: h.sum.Load()}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			l.Count += n
			l.Buckets = append(l.Buckets, Bucket{BelowNanos: upper(i), Count: n})
		}
	}
	return l
}

// Quantile returns a bound below which the part q (0 to 1) of all durations
// lies; zero where there are none.
func (l Snapshot) Quantile(q float64) time.Duration {
	need := int64(q * float64(l.Count))
	var seen int64
	for _, b := range l.Buckets {
		seen += b.Count
		if seen >= need {
			return time.Duration(b.BelowNanos)
		}
	}
	return 0
}
