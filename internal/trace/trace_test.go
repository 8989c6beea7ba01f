package trace_test

import (
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/internal/trace"
)

const ms = time.Millisecond

func TestWaterfall(t *testing.T) {
	tr := trace.Trace{
		RequestID: "7b0e", Function: "hello", Version: "$LATEST", Cold: true, Error: "Runtime.ExitError",
		Begin: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC),
		Spans: []trace.Span{
			{Name: "attach", Took: 25 * ms, Spans: []trace.Span{{Name: "mount", Start: 20 * ms, Took: 5 * ms}}},
			{Name: "init", Start: 25 * ms, Took: 75 * ms},
			{Name: "reads", Start: 10 * ms, Took: 40 * ms, Open: true,
				Numbers: map[string]int64{"count": 3, "bytes": 4096, "slowest_ns": int64(2 * ms)},
				Tiers:   []trace.Tier{{Name: "origin", Chunks: 2, Bytes: 1 << 20, Time: 7 * ms}}},
			{Name: "handler", Start: 100 * ms, Took: 10},
		},
	}
	var b strings.Builder
	if err := tr.Waterfall(&b, 20); err != nil {
		t.Fatal(err)
	}
	want := `hello $LATEST, cold start, 100.00 ms, 2026-01-02 03:04:05.006 UTC
request 7b0e
error   Runtime.ExitError

                     from ms   took ms
attach                  0.00     25.00  █████
  mount                20.00      5.00      █
init                   25.00     75.00       ███████████████
reads                  10.00   > 40.00    ████████            bytes 4.0 KiB, count 3, slowest 2.00 ms
handler               100.00      0.00                     █

chunks             from          count     bytes  ms, summed
  reads            origin            2   1.0 MiB  7.00
`
	if b.String() != want {
		t.Errorf("drawn:\n%s\nwant:\n%s", &b, want)
	}
}
