// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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
	if err := tr.Waterfall(&b, trace.Screen{Width: 60}); err != nil {
		t.Fatal(err)
	}
	want := `hello $LATEST, cold start, 100.00 ms, 2026-01-02
03:04:05.006 UTC
request 7b0e
error   Runtime.ExitError

                     from ms   took ms  0          100.00 ms
attach                  0.00     25.00  █████
  mount                20.00      5.00      █
init                   25.00     75.00       ███████████████
reads                  10.00   > 40.00    ▒▒▒▒▒▒▒▒
    bytes 4.0 KiB, count 3, slowest 2.00 ms
handler               100.00      0.00                     █

██ phases, one after another
▒▒ beside them: reads and what was fetched ahead

chunks             from          count     bytes  ms, summed
  reads            origin            2   1.0 MiB  7.00
`
	if b.String() != want {
		t.Errorf("drawn:\n%s\nwant:\n%s", &b, want)
	}
	for _, width := range []int{40, 80, 200} {
		b.Reset()
		tr.Error = strings.Repeat("a long story ", 20)
		if err := tr.Waterfall(&b, trace.Screen{Width: width}); err != nil {
			t.Fatal(err)
		}
		bars, _, _ := strings.Cut(b.String(), "\nchunks ") // a table of figures has its width
		for line := range strings.Lines(bars) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > max(width, 52) {
				t.Errorf("in %d columns a line has %d: %s", width, n, line)
			}
		}
		if strings.Contains(b.String(), "\x1b") {
			t.Error("there are escape codes without colours")
		}
	}
	b.Reset()
	if err := tr.Waterfall(&b, trace.Screen{Width: 80, Colors: true}); err != nil || strings.Count(b.String(), "\x1b[36m") != 5 || strings.Count(b.String(), "\x1b[33m") != 2 {
		t.Errorf("with colours, error %v:\n%q", err, &b)
	}
}
