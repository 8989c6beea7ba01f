// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
)

// tally is what happened between two times.
type tally struct {
	from, to float64 // seconds

	refused, failed int
	took            []float32 // of the starts that were placed: seconds

	// Chunks read, by what served them. Shared were being fetched by the same
	// worker already.
	l1, shared, l2, origin int64
	again                  int64 // of origin: another worker was fetching it, so L2 was not filled yet

	// Of the servers of L2.
	requests, maxRequests int64   // of stripes: all, and the most of one server
	out, maxOut           int64   // bytes sent
	in                    int64   // bytes stored
	peakRequests, peakOut int64   // the most of one server in a second
	held                  int64   // bytes in use at the end
	alive                 int     // servers at the end
	maxMean               float64 // of out
}

func (t *tally) began(took float64, failed bool) {
	t.took = append(t.took, float32(took))
	if failed {
		t.failed++
	}
}

// servers takes over what the servers counted.
func (t *tally) servers(z *zoneCache) {
	for _, s := range z.servers {
		if s.dead {
			continue
		}
		t.alive++
		t.requests += s.requests
		t.out += s.out
		t.in += s.in
		t.maxRequests, t.maxOut = max(t.maxRequests, s.requests), max(t.maxOut, s.out)
	}
	t.held = z.held()
	if t.out > 0 {
		t.maxMean = float64(t.maxOut) * float64(t.alive) / float64(t.out)
	}
}

func (t *tally) chunks() int64 { return t.l1 + t.shared + t.l2 + t.origin }

func (t *tally) seconds() float64 { return t.to - t.from }

// share is a part of all chunks, in per cent.
func (t *tally) share(chunks int64) float64 {
	return 100 * float64(chunks) / float64(max(t.chunks(), 1))
}

// quantiles of the starts' durations, in milliseconds.
func (t *tally) quantiles(qs ...float64) []float64 {
	slices.Sort(t.took)
	var ms []float64
	for _, q := range qs {
		if n := len(t.took); n == 0 {
			ms = append(ms, 0)
		} else {
			ms = append(ms, 1000*float64(t.took[min(n-1, int(q*float64(n)))]))
		}
	}
	return ms
}

const gigabit = 1e9 / 8

// print writes all that a plan needs.
func (t *tally) print(w io.Writer, cfg config) {
	per := func(n int64) float64 { return float64(n) / t.seconds() }
	far := float64(t.l2+t.origin) * cfg.chunkBytes() / t.seconds() / gigabit
	q := t.quantiles(0.5, 0.95, 0.99, 0.999)
	fmt.Fprintf(w, "  starts           %.0f/s, %d refused, %d failed\n", per(int64(len(t.took))), t.refused, t.failed)
	fmt.Fprintf(w, "  start            p50 %.0f  p95 %.0f  p99 %.0f  p99.9 %.0f ms\n", q[0], q[1], q[2], q[3])
	fmt.Fprintf(w, "  chunks           %.0f/s, %.0f a start\n", per(t.chunks()), float64(t.chunks())/float64(max(len(t.took), 1)))
	fmt.Fprintf(w, "  served by        L1 %.2f %%, a fetch under way on the worker %.2f %%, L2 %.2f %%, origin %.3f %%\n",
		t.share(t.l1), t.share(t.shared), t.share(t.l2), t.share(t.origin))
	fmt.Fprintf(w, "  origin           %.0f requests/s, %.2f Gbit/s; %.1f %% of them for what another worker was fetching\n",
		per(t.origin), per(t.origin)*cfg.chunkBytes()/gigabit, 100*float64(t.again)/float64(max(t.origin, 1)))
	fmt.Fprintf(w, "  L2               hit rate %.3f %%, %.0f stripes/s, %.0f Gbit/s out, %.2f in, %.2f TB held\n",
		100*float64(t.l2)/float64(max(t.l2+t.origin, 1)), per(t.requests), per(t.out)/gigabit, per(t.in)/gigabit, float64(t.held)/1e12)
	fmt.Fprintf(w, "  one L2 server    %.0f stripes/s, %.2f Gbit/s mean; max/mean %.3f; in the worst second %d stripes, %.2f Gbit/s\n",
		per(t.requests)/float64(max(t.alive, 1)), per(t.out)/float64(max(t.alive, 1))/gigabit, t.maxMean, t.peakRequests, float64(t.peakOut)/gigabit)
	fmt.Fprintf(w, "  one worker       %.2f starts/s, %.0f Mbit/s from L2 and the origin\n",
		per(int64(len(t.took)))/float64(cfg.workers), 1000*far/float64(cfg.workers))
}

const rowHead = "  from s   starts/s  refused/s  failed   L1 %  shared %   L2 %  origin %  origin/s  L2 hits %  p50 ms  p99 ms  L2 max/mean  worst Gbit/s\n"

// row writes the same in one line, for a timeline. Worst Gbit/s are those that the
// busiest L2 server sends in a second.
func (t *tally) row(w io.Writer) {
	q := t.quantiles(0.5, 0.99)
	s := t.seconds()
	fmt.Fprintf(w, "  %6.0f %10.0f %10.0f %7d %6.2f %9.2f %6.2f %9.3f %9.0f %10.3f %7.0f %7.0f %12.3f %13.2f\n", t.from,
		float64(len(t.took))/s, float64(t.refused)/s, t.failed, t.share(t.l1), t.share(t.shared), t.share(t.l2), t.share(t.origin),
		float64(t.origin)/s, 100*float64(t.l2)/float64(max(t.l2+t.origin, 1)), q[0], q[1], t.maxMean, float64(t.peakOut)/gigabit)
}
