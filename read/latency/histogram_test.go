// SPDX-License-Identifier: Apache-2.0

package latency_test

import (
	"testing"
	"time"

	"thaw.dev/thaw/read/latency"
)

func TestHistogramBuckets(t *testing.T) {
	var h latency.Histogram
	for us := int64(0); us < 100_000; us += 7 {
		h.Observe(time.Duration(us) * time.Microsecond)
	}
	l := h.Snapshot()
	for _, q := range []float64{0.1, 0.5, 0.9, 0.99} {
		got, exact := l.Quantile(q), time.Duration(q*100_000)*time.Microsecond
		if got < exact || got > exact*17/16+7*time.Microsecond {
			t.Errorf("quantile %v is %v, exactly %v", q, got, exact)
		}
	}
	h.Observe(time.Hour)
	h.Observe(-time.Second)
	if got := h.Snapshot().Count; got != l.Count+2 {
		t.Errorf("count %d", got)
	}
}

// TestBucketsAreNarrow: whatever the duration, the bucket that it is in ends
// less than a sixteenth above it, and begins at or below it.
func TestBucketsAreNarrow(t *testing.T) {
	var last time.Duration
	for d := 64 * time.Nanosecond; d < 68*time.Second; d += d/40 + 1 {
		var h latency.Histogram
		h.Observe(d)
		l := h.Snapshot()
		if len(l.Buckets) != 1 {
			t.Fatalf("%v is in %d buckets", d, len(l.Buckets))
		}
		below := time.Duration(l.Buckets[0].BelowNanos)
		if below <= d || below > d+d/16+1 {
			t.Errorf("%v is in the bucket below %v", d, below)
		}
		if below < last {
			t.Errorf("bucket bounds go from %v to %v", last, below)
		}
		last = below
	}
}
