// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// Screen is what a waterfall is drawn for.
type Screen struct {
	Width  int // in characters
	Colors bool
}

// The columns before the bars, and the least width of these.
const (
	before  = len("                  ") + 1 + 9 + 1 + 9 + 2
	minBars = 10
)

// kind is how bars are drawn: those of the phases, which follow one another, and
// those of what goes on beside them. The mark alone tells them apart too.
type kind struct{ mark, color, words string }

var (
	phase  = kind{"█", "36", "phases, one after another"}
	beside = kind{"▒", "33", "beside them: reads and what was fetched ahead"}
)

func (k kind) bar(cells int, colors bool) string {
	if text := strings.Repeat(k.mark, cells); !colors {
		return text
	} else {
		return "\x1b[" + k.color + "m" + text + "\x1b[0m"
	}
}

// Waterfall draws the trace: one line per span, with a bar below a scale of the
// whole time, a legend, and a table of what came from which tier.
func (t Trace) Waterfall(w io.Writer, s Screen) error {
	temperature := "warm"
	if t.Cold {
		temperature = "cold start"
	}
	whole, cells := t.Took(), max(minBars, s.Width-before)
	var b strings.Builder
	wrap(&b, s.Width, "", fmt.Sprintf("%s %s, %s, %s ms, %s", t.Function, t.Version, temperature, millis(whole), t.Begin.UTC().Format("2006-01-02 15:04:05.000 MST")))
	fmt.Fprintf(&b, "request %s\n", t.RequestID)
	if t.Error != "" {
		wrap(&b, s.Width, "        ", "error   "+t.Error)
	}
	end := millis(whole) + " ms"
	fmt.Fprintf(&b, "\n%-18s %9s %9s  0%s%s\n", "", "from ms", "took ms", strings.Repeat(" ", max(1, cells-1-len(end))), end)
	isBeside := false
	t.Each(func(depth int, span Span) {
		if depth == 0 {
			isBeside = span.Name == "reads" || span.Name == "prefetch"
		}
		k := phase
		if isBeside {
			k = beside
		}
		took := millis(span.Took)
		if span.Open {
			took = "> " + took
		}
		from, to := place(span, whole, cells)
		fmt.Fprintf(&b, "%-18s %9s %9s  %s%s\n", strings.Repeat("  ", depth)+span.Name, millis(span.Start), took,
			strings.Repeat(" ", from), k.bar(to-from, s.Colors))
		if len(span.Numbers) > 0 {
			wrap(&b, s.Width, strings.Repeat("  ", depth+2), strings.Repeat("  ", depth+2)+numbers(span.Numbers))
		}
	})
	b.WriteString("\n")
	for _, k := range []kind{phase, beside} {
		b.WriteString(k.bar(2, s.Colors) + " " + k.words + "\n")
	}
	t.tiers(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap writes text in lines of at most width characters where it has blanks, those
// after the first behind an indent.
func wrap(b *strings.Builder, width int, indent, text string) {
	for utf8.RuneCountInString(text) > width {
		at := strings.LastIndex(text[:min(width+1, len(text))], " ")
		if at <= len(indent) {
			break // a word that is longer than the line
		}
		b.WriteString(text[:at] + "\n")
		text = indent + text[at+1:]
	}
	b.WriteString(text + "\n")
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

// place is where a span's bar begins and ends. What took any time is a cell at
// least.
func place(s Span, whole time.Duration, cells int) (from, to int) {
	if whole <= 0 {
		return 0, 0
	}
	cell := func(d time.Duration) int { return int((int64(d)*int64(cells) + int64(whole)/2) / int64(whole)) }
	from = min(max(0, cell(s.Start)), cells-1)
	return from, min(max(cell(s.Start+s.Took), from+1), cells)
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
