// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// start is a cold start that is wanted: an invocation that finds no idle
// sandbox. Warm invocations reach neither placement nor the caches.
type start struct {
	at       float64 // seconds
	function int
}

// trace yields starts in the order of time, without end.
type trace interface{ next() start }

// zipf draws ranks 0 to n-1, rank k as often as 1/(k+1+shift)^s (Zipf and
// Mandelbrot). The shift bounds the most popular.
type zipf struct{ sums []float64 }

func newZipf(n int, s, shift float64) zipf {
	z := zipf{make([]float64, n)}
	sum := 0.
	for k := range z.sums {
		sum += math.Pow(float64(k+1)+shift, -s)
		z.sums[k] = sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) int {
	return sort.SearchFloat64s(z.sums, r.Float64()*z.sums[len(z.sums)-1])
}

// steady is a trace of independent starts at one rate.
type steady struct {
	random  *rand.Rand
	popular zipf
	rate    float64
	now     float64
}

func newSteady(cfg config) *steady {
	return &steady{rand.New(rand.NewPCG(cfg.seed, 2)), newZipf(cfg.functions, cfg.zipf, cfg.shift), cfg.rate, 0}
}

func (s *steady) next() start {
	s.now += s.random.ExpFloat64() / s.rate
	return start{s.now, s.popular.draw(s.random)}
}

// herd is a trace of the functions that a clock starts, one sandbox each, at the
// beginning of a minute. Many start at the full hour.
type herd struct {
	random  *rand.Rand
	cfg     config
	minute  int // the next to be made
	pending []start
}

// periods are how often scheduled functions start: minutes, and the part of the
// functions up to here.
var periods = []struct {
	minutes int
	upTo    float64
}{{5, 0.1}, {15, 0.3}, {60, 0.7}, {24 * 60, 1}}

// onTheDot is the part of the schedules that name no minute of their own: they
// are due whenever the clock shows a multiple of the period.
const onTheDot = 0.7

func newHerd(cfg config) *herd {
	return &herd{random: rand.New(rand.NewPCG(cfg.seed, 3)), cfg: cfg}
}

// due reports whether function f is scheduled in that minute of the trace.
func (h *herd) due(f, minute int) bool {
	x := mix(uint64(f) ^ h.cfg.seed<<32)
	unit := func() float64 { x = mix(x); return float64(x>>11) / (1 << 53) }
	if unit() >= h.cfg.scheduled {
		return false
	}
	kind, offset := unit(), 0
	for _, p := range periods {
		if kind >= p.upTo {
			continue
		}
		if unit() >= onTheDot {
			offset = int(unit() * float64(p.minutes))
		}
		return (minute+24*60-h.cfg.hourMinute)%p.minutes == offset
	}
	return false
}

func (h *herd) next() start {
	for len(h.pending) == 0 {
		for f := range h.cfg.functions {
			if h.due(f, h.minute) {
				late := min(h.random.ExpFloat64()*h.cfg.herdSpread, 59)
				h.pending = append(h.pending, start{60*float64(h.minute) + late, f})
			}
		}
		slices.SortStableFunc(h.pending, func(a, b start) int {
			switch {
			case a.at < b.at:
				return -1
			case a.at > b.at:
				return 1
			}
			return 0
		})
		h.minute++
	}
	s := h.pending[0]
	h.pending = h.pending[1:]
	return s
}

// merged is two traces as one.
type merged struct {
	a, b         trace
	nextA, nextB start
}

func newMerged(a, b trace) *merged { return &merged{a, b, a.next(), b.next()} }

func (m *merged) next() start {
	if m.nextA.at <= m.nextB.at {
		s := m.nextA
		m.nextA = m.a.next()
		return s
	}
	s := m.nextB
	m.nextB = m.b.next()
	return s
}
