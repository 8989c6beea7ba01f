// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"thaw.dev/thaw/bench/measure"
)

// What is promised.
const (
	mostRatio  = 1.5
	mostWarm   = 5 * time.Millisecond // is within the promise, whatever the ratio
	mostPeakMB = 512
)

func heading(w io.Writer) {
	fmt.Fprintln(w, "| scenario | program | abusers | warm p50/p99 alone, ms | beside | cold p50 alone, ms | beside | ratio | deploy p50 alone, ms | beside | errors | peak MiB | holds | the abuser was told |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
}

// row prints what a victim saw beside n abusers, as a line of a table.
func row(w io.Writer, name, program string, n int, alone, beside result) {
	fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", name, program, n,
		warmFigure(alone), warmFigure(beside),
		median(alone.cold), median(beside.cold), ratio(alone.cold, beside.cold),
		median(alone.deploy), median(beside.deploy),
		errorsFigure(beside), memoryFigure(beside), verdict(alone, beside), cell(beside.told))
}

func warmFigure(r result) string {
	if len(r.warm) == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f / %.1f", ms(r.warm.Quantile(0.5)), ms(r.warm.Quantile(0.99)))
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func median(s measure.Samples) string {
	if len(s) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", ms(s.Quantile(0.5)))
}

func ratio(alone, beside measure.Samples) string {
	if len(alone) == 0 || len(beside) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(beside.Quantile(0.5))/float64(alone.Quantile(0.5)))
}

// verdict says whether the promise holds, or what of it does not.
func verdict(alone, beside result) string {
	var short []string
	if p99 := beside.warm.Quantile(0.99); len(beside.warm) == 0 || p99 > mostWarm && float64(p99) > mostRatio*float64(alone.warm.Quantile(0.99)) {
		short = append(short, "warm")
	}
	if tooSlow(alone.cold, beside.cold) {
		short = append(short, "cold")
	}
	if tooSlow(alone.deploy, beside.deploy) {
		short = append(short, "deploy")
	}
	if len(beside.errors) > 0 {
		short = append(short, "errors")
	}
	if beside.peakMB > mostPeakMB {
		short = append(short, "memory")
	}
	if beside.dead != "" {
		short = append(short, "the server ended: "+cell(beside.dead))
	}
	if len(short) == 0 {
		return "yes"
	}
	return "no: " + strings.Join(short, ", ")
}

func tooSlow(alone, beside measure.Samples) bool {
	if len(alone) == 0 {
		return false
	}
	return len(beside) == 0 || float64(beside.Quantile(0.5)) > mostRatio*float64(alone.Quantile(0.5))
}

// errorsFigure is how many calls of the victim failed, and how most of them did.
func errorsFigure(r result) string {
	n := 0
	for _, times := range r.errors {
		n += times
	}
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", n, cell(commonest(r.errors)))
}

func memoryFigure(r result) string {
	text := fmt.Sprint(r.peakMB)
	for _, role := range slices.Sorted(maps.Keys(r.others)) {
		text += fmt.Sprintf(" + %s %d", role, r.others[role])
	}
	return text
}

// commonest is the text that was counted most often, the first of those in order.
func commonest(counts map[string]int) string {
	texts := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// changing is what differs from one message to the next of the same kind.
var changing = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32,}|127\.0\.0\.[0-9]+:[0-9]+|2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?`)

// plain is an error without what the SDK puts around it, and without what
// changes each time.
func plain(err error) string {
	text := err.Error()
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text = api.ErrorCode() + ": " + api.ErrorMessage()
	}
	return changing.ReplaceAllString(text, "*")
}

// mostCell bounds a text in the table.
const mostCell = 160

// cell is a text that a table's cell can hold.
func cell(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "/")
	if runes := []rune(text); len(runes) > mostCell {
		text = string(runes[:mostCell]) + "..."
	}
	return text
}
