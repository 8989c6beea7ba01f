// Package latency counts durations in buckets fine enough to draw a
// distribution from. It knows no clock: callers measure.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Four buckets for each doubling, from 1 µs to about 67 s: a quantile read from
// them is off by at most a fifth.
const (
	stepsPerDoubling = 4
	doublings        = 26
	bucketCount      = doublings*stepsPerDoubling + 1 // the last is for all above
)

// Histogram counts durations in fine buckets. The zero value is ready. It is
// safe for concurrent use.
type Histogram struct {
	counts [bucketCount]atomic.Int64
	sum    atomic.Int64 // microseconds
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	us := max(d.Microseconds(), 0)
	h.counts[bucketOf(us)].Add(1)
	h.sum.Add(us)
}

func bucketOf(us int64) int {
	if us < 1 {
		return 0
	}
	exp := bits.Len64(uint64(us)) - 1
	step := int((uint64(us)<<2)>>exp) & (stepsPerDoubling - 1) // the two bits after the first
	return min(exp*stepsPerDoubling+step, bucketCount-1)
}

// upperMicros is the least number of microseconds above bucket i.
func upperMicros(i int) int64 {
	exp, step := i/stepsPerDoubling, i%stepsPerDoubling
	return (int64(1)<<exp*int64(stepsPerDoubling+step+1) + stepsPerDoubling - 1) / stepsPerDoubling
}

// Snapshot is a histogram at one moment.
type Snapshot struct {
	Count     int64    `json:"count"`
	SumMicros int64    `json:"sum_us"`
	Buckets   []Bucket `json:"buckets,omitempty"` // ascending; empty ones left out
}

// Bucket counts the durations below a bound and at least the bound before it in
// the full scale of the histogram.
type Bucket struct {
	BelowMicros int64 `json:"below_us"`
	Count       int64 `json:"count"`
}

// Snapshot returns the counts so far. Durations counted meanwhile may be
// missing from it in part.
func (h *Histogram) Snapshot() Snapshot {
	l := Snapshot{SumMicros: h.sum.Load()}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			l.Count += n
			l.Buckets = append(l.Buckets, Bucket{BelowMicros: upperMicros(i), Count: n})
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
			return time.Duration(b.BelowMicros) * time.Microsecond
		}
	}
	return 0
}
