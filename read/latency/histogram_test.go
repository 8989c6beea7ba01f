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
		if got < exact || got > exact*5/4 {
			t.Errorf("quantile %v is %v, exactly %v", q, got, exact)
		}
	}
	var last int64
	for _, b := range l.Buckets {
		if b.BelowMicros <= last {
			t.Errorf("bucket bounds go from %d to %d", last, b.BelowMicros)
		}
		last = b.BelowMicros
	}
	h.Observe(time.Hour)
	h.Observe(-time.Second)
	if got := h.Snapshot().Count; got != l.Count+2 {
		t.Errorf("count %d", got)
	}
}
