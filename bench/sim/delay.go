// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
)

// delay is a distribution of latencies, in seconds: log-normal through a median
// and a 99.9th percentile.
type delay []float64

const delaySteps = 1 << 14

func newDelay(p50, p999 float64) delay {
	const z999 = 3.0902 // of the normal distribution
	sigma := math.Log(p999/p50) / z999
	d := make(delay, delaySteps)
	for i := range d {
		q := (float64(i) + 0.5) / delaySteps
		d[i] = p50 * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*q-1))
	}
	return d
}

func (d delay) draw(r *rand.Rand) float64 { return d[r.Uint64()%delaySteps] }

// origin is the object store: latencies, and requests queueing where there are
// more of them than it serves.
type origin struct {
	delay delay
	rate  float64 // requests that it serves, a second
	free  float64 // when what was asked so far is served
}

// wait is how long a request for that many chunks stands in the queue.
func (o *origin) wait(now float64, chunks int) float64 {
	waits := max(0, o.free-now)
	o.free = max(o.free, now) + float64(chunks)/o.rate
	return waits
}

// window is the fetches of one start, so many at a time.
type window struct {
	lanes []float64 // when each is free, from the start's beginning
	next  int
}

func (w *window) reset() {
	clear(w.lanes)
	w.next = 0
}

// fetch adds one fetch, which nobody serves before a time, and returns when it is
// done.
func (w *window) fetch(notBefore, took float64) float64 {
	lane := &w.lanes[w.next]
	w.next = (w.next + 1) % len(w.lanes)
	*lane = max(*lane, notBefore) + took
	return *lane
}

// all adds n fetches that each take the same.
func (w *window) all(n int, took float64) {
	for i := range w.lanes {
		w.lanes[i] += took * float64(n) / float64(len(w.lanes))
	}
}

func (w *window) end() float64 {
	last := 0.
	for _, t := range w.lanes {
		last = max(last, t)
	}
	return last
}
