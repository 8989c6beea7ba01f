package trace

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Waterfall draws the trace: a line a span, with a bar of which the whole time
// is cells wide, and under it what came from which tier.
func (t Trace) Waterfall(w io.Writer, cells int) error {
	kind := "warm"
	if t.Cold {
		kind = "cold start"
	}
	whole := t.Took()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, %s, %s ms, %s\nrequest %s\n", t.Function, t.Version, kind, millis(whole), t.Begin.UTC().Format("2006-01-02 15:04:05.000 MST"), t.RequestID)
	if t.Error != "" {
		fmt.Fprintf(&b, "error   %s\n", t.Error)
	}
	fmt.Fprintf(&b, "\n%-18s %9s %9s\n", "", "from ms", "took ms")
	t.Each(func(depth int, s Span) {
		took := millis(s.Took)
		if s.Open {
			took = "> " + took
		}
		line := fmt.Sprintf("%-18s %9s %9s  %s  %s", strings.Repeat("  ", depth)+s.Name, millis(s.Start), took, bar(s, whole, cells), numbers(s.Numbers))
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	})
	t.tiers(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// tiers writes the table of tiers, if any gave anything.
func (t Trace) tiers(b *strings.Builder) {
	begun := false
	t.Each(func(_ int, s Span) {
		for _, tier := range s.Tiers {
			if !begun {
				fmt.Fprintf(b, "\n%-18s %-9s %9s %9s  %s\n", "chunks", "from", "count", "bytes", "ms, summed")
				begun = true
			}
			fmt.Fprintf(b, "  %-16s %-9s %9d %9s  %s\n", s.Name, tier.Name, tier.Chunks, humanize.IBytes(uint64(tier.Bytes)), millis(tier.Time))
		}
	})
}

// bar is the span's place in the whole. What took any time is a cell at least.
func bar(s Span, whole time.Duration, cells int) string {
	if whole <= 0 {
		return strings.Repeat(" ", cells)
	}
	cell := func(d time.Duration) int { return int((int64(d)*int64(cells) + int64(whole)/2) / int64(whole)) }
	from := min(max(0, cell(s.Start)), cells-1)
	to := min(max(cell(s.Start+s.Took), from+1), cells)
	return strings.Repeat(" ", from) + strings.Repeat("█", to-from) + strings.Repeat(" ", cells-to)
}

func numbers(n map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		switch value := n[name]; {
		case strings.HasSuffix(name, "bytes"):
			parts = append(parts, strings.TrimSuffix(name, "_bytes")+" "+humanize.IBytes(uint64(value)))
		case strings.HasSuffix(name, "_ns"):
			parts = append(parts, fmt.Sprintf("%s %s ms", strings.TrimSuffix(name, "_ns"), millis(time.Duration(value))))
		default:
			parts = append(parts, fmt.Sprintf("%s %d", name, value))
		}
	}
	return strings.Join(parts, ", ")
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }
