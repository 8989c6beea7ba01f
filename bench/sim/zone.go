// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"thaw.dev/thaw/invoke/placement"
)

// sandboxMB is the memory of a sandbox. All have the same, so that a worker's
// memory is a number of sandboxes.
const sandboxMB = 1

// worker is a host as the read path sees it: L1, and what is on its way there.
type worker struct {
	l1     policy[piece]
	coming []arrival
}

type arrival struct {
	piece piece
	at    float64
}

// arriving returns when a piece that is being fetched will be there.
func (w *worker) arriving(now float64, q piece) (at float64, ok bool) {
	w.coming = slices.DeleteFunc(w.coming, func(a arrival) bool { return a.at <= now })
	for _, a := range w.coming {
		if a.piece == q {
			return a.at, true
		}
	}
	return 0, false
}

// zone is the workers, their placement and the tiers behind them.
type zone struct {
	cfg     config
	pop     *population
	random  *rand.Rand
	fleet   *placement.Fleet
	workers map[*placement.Host]*worker
	l2      *zoneCache
	origin  origin
	l2Delay delay

	trace   trace
	pending start
	now     float64
	second  float64 // when the load of the servers is next looked at
	events  events
	alive   []sandbox // that are alive, by their end
	filling map[piece]struct{}

	touched []piece
	window  window
	tally   tally
}

type sandbox struct {
	host *placement.Host
	ends float64
}

func newZone(cfg config, pop *population, t trace) *zone {
	z := &zone{
		cfg: cfg, pop: pop, random: rand.New(rand.NewPCG(cfg.seed, 4)),
		workers: map[*placement.Host]*worker{},
		l2:      newZoneCache(cfg, pop),
		origin:  origin{delay: newDelay(cfg.originP50, cfg.originP999), rate: cfg.originRate},
		l2Delay: newDelay(cfg.l2P50, cfg.l2P999),
		trace:   t, pending: t.next(),
		filling: map[piece]struct{}{},
		window:  window{lanes: make([]float64, cfg.window)},
	}
	var workers []placement.Worker
	for i := range cfg.workers {
		workers = append(workers, placement.Worker{
			ID: fmt.Sprintf("worker-%d", i), MemoryMB: int64(cfg.sandboxes) * sandboxMB, Starts: cfg.starts,
		})
	}
	z.fleet = placement.New(workers)
	for _, h := range z.fleet.Hosts() {
		z.workers[h] = &worker{l1: cfg.policy(cfg.l1Bytes)}
	}
	return z
}

// run goes on until a time, and forgets what was counted before.
func (z *zone) run(until float64) tally {
	z.tally = tally{from: z.now, to: until}
	z.l2.restart()
	z.second = z.now + 1
	for z.pending.at < until {
		z.begin(z.pending)
		z.pending = z.trace.next()
	}
	z.advance(until)
	z.tally.servers(z.l2)
	return z.tally
}

// advance lets happen what is due until a time.
func (z *zone) advance(to float64) {
	z.now = to
	for ; z.second <= to; z.second++ {
		requests, out := z.l2.peak()
		z.tally.peakRequests, z.tally.peakOut = max(z.tally.peakRequests, requests), max(z.tally.peakOut, out)
	}
	for len(z.events) > 0 && z.events[0].at <= to {
		e := z.events.pop()
		if e.host != nil {
			z.fleet.Started(e.host)
			continue
		}
		delete(z.filling, e.piece)
		z.l2.put(e.piece)
	}
	for len(z.alive) > 0 && z.alive[0].ends <= to {
		z.fleet.Ended(z.alive[0].host, sandboxMB)
		z.alive = z.alive[1:]
	}
}

// begin places a start and reads its working set.
func (z *zone) begin(s start) {
	z.advance(s.at)
	if z.random.Float64() < z.cfg.deployed {
		z.pop.deploy(s.function)
	}
	image := z.pop.image(s.function)
	if z.cfg.scatter {
		binary.BigEndian.PutUint64(image[:], z.random.Uint64())
	}
	host, ok := z.fleet.Place(image, sandboxMB)
	if !ok {
		z.tally.refused++
		return
	}
	took := z.read(z.workers[host], s.function)
	z.tally.began(z.cfg.boot+took, took > z.cfg.patience)
	z.events.push(event{at: s.at + z.cfg.boot + took, host: host})
	z.alive = append(z.alive, sandbox{host, s.at + z.cfg.keep})
}

// read fetches what a start touches, in order and ahead of it, and returns how
// long that takes.
func (z *zone) read(w *worker, function int) float64 {
	z.window.reset()
	joined := 0.
	z.touched = z.pop.touch(z.touched[:0], function)
	for _, q := range z.touched {
		n := z.pop.chunks(q)
		if at, ok := w.arriving(z.now, q); ok {
			z.tally.shared += int64(n)
			joined = max(joined, at-z.now)
			continue
		}
		if w.l1.get(q) {
			z.tally.l1 += int64(n)
			z.window.all(n, z.cfg.l1)
			continue
		}
		w.coming = append(w.coming, arrival{q, z.now + z.fetch(q, n)})
		w.l1.add(q, z.pop.bytes(q))
	}
	return max(joined, z.window.end())
}

// fetch gets a piece from L2 or the origin and returns after how long it is
// there.
func (z *zone) fetch(q piece, n int) (done float64) {
	if z.l2.get(q) {
		z.tally.l2 += int64(n)
		for range n {
			done = max(done, z.window.fetch(0, z.l2Delay.draw(z.random)))
		}
		return done
	}
	z.tally.origin += int64(n)
	wait := z.origin.wait(z.now, n)
	for range n {
		done = max(done, z.window.fetch(wait, z.origin.delay.draw(z.random)))
	}
	if _, ok := z.filling[q]; ok {
		z.tally.again += int64(n)
		return done
	}
	z.filling[q] = struct{}{}
	z.events.push(event{at: z.now + done, piece: q})
	return done
}

// event is the end of a start, if it has a host, or else a piece that is stored
// in L2.
type event struct {
	at    float64
	host  *placement.Host
	piece piece
}

// events is a heap, the earliest first.
type events []event

func (e *events) push(v event) {
	h := append(*e, v)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].at <= h[i].at {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
	*e = h
}

func (e *events) pop() event {
	h := *e
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		least := i
		for _, down := range []int{2*i + 1, 2*i + 2} {
			if down < len(h) && h[down].at < h[least].at {
				least = down
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*e = h
	return first
}
