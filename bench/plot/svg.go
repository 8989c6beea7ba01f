// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"time"
)

// The picture, in its own units.
const (
	width, height = 760, 400
	left, right   = 64, 220 // beside the plot; the legend is on the right
	top, bottom   = 48, 52
	plotWidth     = width - left - right
	plotHeight    = height - top - bottom
	legendLine    = 44
)

// style is readable on light and on dark ground; a viewer that knows no media
// queries shows the light one. Curves differ by their dashes too, for whoever
// can't tell the colours.
const style = `<style>
.ground { fill: #ffffff }
text { fill: #1f2328; font: 12px sans-serif }
.title { font-size: 15px; font-weight: bold }
.grid { stroke: #d5d9de; fill: none }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round }
.c0 { stroke: #1f6fc5 }
.c1 { stroke: #bf5310; stroke-dasharray: 9 3 }
.c2 { stroke: #17804f; stroke-dasharray: 3 3 }
.c3 { stroke: #8a3fb5; stroke-dasharray: 12 3 3 3 }
.c4 { stroke: #9b1c48; stroke-dasharray: 1 4 }
@media (prefers-color-scheme: dark) {
.ground { fill: #11151a }
text { fill: #e4e8ec }
.grid { stroke: #343b44 }
.c0 { stroke: #6cb2ff }
.c1 { stroke: #f79a5e }
.c2 { stroke: #5fd39d }
.c3 { stroke: #cf9ff0 }
.c4 { stroke: #ff8fae }
}
</style>
`

const styles = 5

// axis is the logarithmic axis of durations, from one power of ten to another,
// both in nanoseconds.
type axis struct{ from, to int }

// axisOf spans all buckets that count something.
func axisOf(curves []curve) (axis, error) {
	least, most := int64(math.MaxInt64), int64(0)
	for _, c := range curves {
		if n := len(c.Latency.Buckets); n > 0 {
			least, most = min(least, c.Latency.Buckets[0].BelowNanos), max(most, c.Latency.Buckets[n-1].BelowNanos)
		}
	}
	if most == 0 {
		return axis{}, errors.New("no tier has had a hit: there is nothing to draw")
	}
	a := axis{int(math.Floor(math.Log10(float64(least)))), int(math.Ceil(math.Log10(float64(most))))}
	a.to = max(a.to, a.from+1)
	return a, nil
}

func (a axis) x(nanos float64) float64 {
	return left + plotWidth*(math.Log10(nanos)-float64(a.from))/float64(a.to-a.from)
}

func y(part float64) float64 { return top + plotHeight*(1-part) }

// draw writes the picture of the curves that have anything.
func draw(to io.Writer, title string, curves []curve) error {
	a, err := axisOf(curves)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(to)
	fmt.Fprintf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", width, height, width, height)
	fmt.Fprintf(w, "<title>%s</title>\n%s<rect class=\"ground\" width=\"%d\" height=\"%d\"/>\n", html.EscapeString(title), style, width, height)
	fmt.Fprintf(w, "<text class=\"title\" x=\"%d\" y=\"26\">%s</text>\n", left, html.EscapeString(title))
	grid(w, a)
	line := 0
	for i, c := range curves {
		if c.Latency.Count > 0 { // a tier has its colour whether or not others are drawn
			a.curve(w, c, i%styles)
			legend(w, c, line, i%styles)
			line++
		}
	}
	fmt.Fprintln(w, "</svg>")
	return w.Flush()
}

func grid(w io.Writer, a axis) {
	for exp := a.from; exp <= a.to; exp++ {
		x := a.x(math.Pow10(exp))
		fmt.Fprintf(w, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>\n", x, top, top+plotHeight)
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x, top+plotHeight+18, time.Duration(math.Pow10(exp)))
	}
	for percent := 0; percent <= 100; percent += 25 {
		at := y(float64(percent) / 100)
		fmt.Fprintf(w, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>\n", left, at, left+plotWidth)
		fmt.Fprintf(w, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d %%</text>\n", left-8, at+4, percent)
	}
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">took less than</text>\n", left+plotWidth/2, height-10)
}

// curve draws one tier. What is known is how many hits took less than where each
// bucket begins and ends; within a bucket the line is straight.
func (a axis) curve(w io.Writer, c curve, style int) {
	fmt.Fprintf(w, "<path class=\"curve c%d\" d=\"M%d %.1f", style, left, y(0))
	seen, at := int64(0), float64(left)
	for _, b := range c.Latency.Buckets {
		seen += b.Count
		at = max(at, a.x(float64(b.BelowNanos)*16/17)) // a bucket is a sixteenth wide, or less
		fmt.Fprintf(w, "H%.1f", at)
		at = a.x(float64(b.BelowNanos))
		fmt.Fprintf(w, "L%.1f %.1f", at, y(float64(seen)/float64(c.Latency.Count)))
	}
	fmt.Fprintf(w, "H%d\"/>\n", left+plotWidth)
}

// legend explains a curve, on a line of its own.
func legend(w io.Writer, c curve, line, style int) {
	x, at := left+plotWidth+16, top+12+line*legendLine
	fmt.Fprintf(w, "<path class=\"curve c%d\" d=\"M%d %dh24\"/>\n", style, x, at-4)
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\">%s, %d hits</text>\n", x+32, at, html.EscapeString(c.Name), c.Latency.Count)
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\">p50 %s, p99 %s</text>\n", x+32, at+16, short(c.Latency.Quantile(0.5)), short(c.Latency.Quantile(0.99)))
}

// short is a duration to three digits, which is what a bucket knows of it.
func short(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
