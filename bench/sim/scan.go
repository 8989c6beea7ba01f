// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

// The scan: functions of a size, all chunks their own, so that nothing but the
// policy protects those that are in use.
const (
	hotFunctions  = 20
	scanFunctions = 1000
	scanChunks    = 90 // that a start of one touches: 17 MB
)

type scanned struct{ function, chunk int }

// touchAll starts a function on a cache and returns how many of its chunks were
// held.
func touchAll(p policy[scanned], function int) (hits int) {
	for c := range scanChunks {
		key := scanned{function, c}
		if p.get(key) {
			hits++
		} else {
			p.add(key, 1)
		}
	}
	return hits
}

// survive starts the hot functions four times, then others once each, with a hot
// one after every so many if between is not zero, and returns which part of the
// hot ones' chunks is held afterwards, and of those started in between was held.
func survive(p policy[scanned], between int) (after, during float64) {
	for range 4 {
		for f := range hotFunctions {
			touchAll(p, f)
		}
	}
	hits, starts := 0, 0
	for i := range scanFunctions {
		touchAll(p, hotFunctions+i)
		if between > 0 && i%between == between-1 {
			hits += touchAll(p, starts%hotFunctions)
			starts++
		}
	}
	held := 0
	for f := range hotFunctions {
		held += touchAll(p, f)
	}
	if starts > 0 {
		during = float64(hits) / float64(starts*scanChunks)
	}
	return float64(held) / (hotFunctions * scanChunks), during
}

// scan compares L1's policy with LRU.
func scan(w io.Writer) {
	fmt.Fprintf(w, "scan: %d hot functions, then %d others once each; %d chunks a start, none shared\n", hotFunctions, scanFunctions, scanChunks)
	fmt.Fprintf(w, "  %-38s %22s %22s\n", "", "S3-FIFO (L1)", "LRU")
	for _, room := range []float64{1.2, 1.5, 2, 4} {
		for _, between := range []int{0, 50, 10} {
			bytes := int64(room * hotFunctions * scanChunks)
			a, aDuring := survive(newFIFO[scanned](bytes), between)
			b, bDuring := survive(newLRU[scanned](bytes), between)
			what := fmt.Sprintf("room for %.1f times the hot ones", room)
			if between == 0 {
				fmt.Fprintf(w, "  %-38s %14.1f %% kept %14.1f %% kept\n", what, 100*a, 100*b)
				continue
			}
			fmt.Fprintf(w, "  %-38s %14.1f %% hits %14.1f %% hits\n", fmt.Sprintf("  a hot start among every %d", between), 100*aDuring, 100*bDuring)
		}
	}
	fmt.Fprintln(w)
}
