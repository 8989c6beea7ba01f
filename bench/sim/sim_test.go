// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

// small is a zone of a hundred workers or fewer.
func small(t testing.TB, args ...string) config {
	t.Helper()
	cfg, _, err := parse(append([]string{"-scale", "0.004", "-warm", "30", "-measure", "30", "-l1", "0.4"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// golden compares with a file of testdata; -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("other processors may round otherwise: they fuse multiplications with additions")
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update accepts\n%s", file, got)
	}
}

// The figures follow from the flags alone. They change where placement, eviction
// or the ring change, which is then to be seen here.
func TestGolden(t *testing.T) {
	for _, scenario := range []string{"zipf", "cron", "fresh", "empty"} {
		t.Run(scenario, func(t *testing.T) {
			var out strings.Builder
			play(&out, small(t), scenario)
			golden(t, scenario+".txt", out.String())
		})
	}
}

func TestSeedMatters(t *testing.T) {
	var a, b strings.Builder
	play(&a, small(t), "empty")
	play(&b, small(t, "-seed", "2"), "empty")
	if a.String() == b.String() {
		t.Error("two seeds give the same figures")
	}
}

func TestNoSuchScenario(t *testing.T) {
	var out strings.Builder
	if play(&out, small(t), "nothing") || out.Len() > 0 {
		t.Error("a scenario that is not there was played")
	}
}

// counted is a trace that adds up what its starts touch.
type counted struct {
	trace
	pop    *population
	chunks int64
	last   int64 // chunks of the latest start
}

func (c *counted) next() start {
	s := c.trace.next()
	c.last = 0
	for _, q := range c.pop.touch(nil, s.function) {
		c.last += int64(c.pop.chunks(q))
	}
	c.chunks += c.last
	return s
}

// Every chunk that a start touches is served by exactly one tier, whatever
// happens to the servers meanwhile.
func TestEveryChunkIsServedByOneTier(t *testing.T) {
	cfg := small(t, "-starts", "100000", "-deployed", "0") // a new version touches another private piece
	pop := newPopulation(cfg)
	trace := &counted{trace: newMerged(newSteady(cfg), newHerd(cfg)), pop: pop}
	z := newZone(cfg, pop, trace)
	served := int64(0)
	for i := range 6 {
		if i == 3 {
			z.l2.kill(z.l2.servers[0])
			z.l2.kill(z.l2.servers[1])
		}
		if i == 5 {
			z.l2.forget()
		}
		tally := z.run(z.now + 10)
		if tally.refused > 0 {
			t.Fatal("a start was refused, whose chunks nobody serves")
		}
		served += tally.chunks()
	}
	if wanted := trace.chunks - trace.last; served != wanted || served == 0 { // the latest has yet to begin
		t.Errorf("%d chunks were wanted, %d served", wanted, served)
	}
}

// The inclusion property of LRU, which the baseline must have if it is LRU: what
// a cache holds, a larger one holds too.
func TestMoreRoomNeverCostsLRUAHit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := rapid.Int64Range(1, 20).Draw(t, "room")
		less, more := newLRU[int](room), newLRU[int](room+rapid.Int64Range(0, 20).Draw(t, "more"))
		for _, key := range rapid.SliceOf(rapid.IntRange(0, 40)).Draw(t, "keys") {
			a, b := less.get(key), more.get(key)
			if a && !b {
				t.Fatalf("the larger cache lacks %d", key)
			}
			less.add(key, 1)
			more.add(key, 1)
			if less.bytes > less.capacity || more.bytes > more.capacity {
				t.Fatalf("%d of %d, %d of %d", less.bytes, less.capacity, more.bytes, more.capacity)
			}
		}
	})
}

// The baseline against the plainest possible LRU.
func TestLRUIsLRU(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := rapid.IntRange(1, 12).Draw(t, "room")
		l := newLRU[int](int64(room))
		var want []int // oldest first
		for _, key := range rapid.SliceOf(rapid.IntRange(0, 20)).Draw(t, "keys") {
			i := slices.Index(want, key)
			if got := l.get(key); got != (i >= 0) {
				t.Fatalf("%d: held %v, want %v", key, got, i >= 0)
			}
			if i >= 0 {
				want = slices.Delete(want, i, i+1)
			}
			l.add(key, 1)
			if want = append(want, key); len(want) > room {
				want = want[1:]
			}
		}
	})
}

// hits are the chunks that L1 serves in a zone, with that much of it.
func hits(t *testing.T, args ...string) int64 {
	cfg := small(t, args...)
	z := newZone(cfg, newPopulation(cfg), newSteady(cfg))
	z.run(cfg.warm)
	tally := z.run(cfg.warm + cfg.measure)
	return tally.l1 + tally.shared
}

func TestMoreL1NeverLowersTheHitRateOfLRU(t *testing.T) {
	last := int64(-1)
	for _, gb := range []string{"0.05", "0.1", "0.2", "0.4", "1.6"} {
		n := hits(t, "-lru", "-l1", gb)
		if n < last {
			t.Errorf("%s GB of L1 serve %d chunks, less served %d", gb, n, last)
		}
		last = n
	}
}

// lose measures a zone in which nothing is new, before and after servers die:
// the chunks that the origin serves.
func lose(t *testing.T, servers int, args ...string) (before, after int64) {
	cfg := small(t, append(args, "-deployed", "0", "-l1", "0.05")...)
	z := newZone(cfg, newPopulation(cfg), newSteady(cfg))
	z.l2.warm()
	before = z.run(20).origin
	for _, s := range z.l2.servers[:servers] {
		z.l2.kill(s)
	}
	tally := z.run(40)
	if tally.l2 == 0 {
		t.Fatal("L2 served nothing")
	}
	return before, tally.origin
}

func TestOneDeadServerCostsNoHit(t *testing.T) {
	if before, after := lose(t, 1); before != 0 || after != 0 {
		t.Errorf("the origin serves %d chunks, and %d with one server dead", before, after)
	}
	// The test can tell: two dead cost hits, and so does one without a parity.
	if _, after := lose(t, 2); after == 0 {
		t.Error("two dead servers cost nothing")
	}
	if _, after := lose(t, 1, "-no-parity"); after == 0 {
		t.Error("one dead server costs nothing without parity")
	}
}

// A server that joins, empty, costs no hit either: only one stripe of a chunk in
// all moves to it.
func TestANewServerCostsNoHit(t *testing.T) {
	cfg := small(t, "-deployed", "0", "-l1", "0.05")
	z := newZone(cfg, newPopulation(cfg), newSteady(cfg))
	z.l2.warm()
	names := []string{"10.1.9.9:11211"}
	for _, s := range z.l2.servers {
		names = append(names, s.name)
	}
	z.l2.setServers(names)
	tally := z.run(20)
	// The bound moves a few places beside the new server's own share.
	if lost := tally.share(tally.origin); lost > 0.5 {
		t.Errorf("%.2f %% of the chunks are lost", lost)
	}
	if added := z.l2.byName["10.1.9.9:11211"]; added.stripes.bytes == 0 {
		t.Error("nothing was stored on the new server")
	}
}

// A full zone refuses, and its books are right when all is over.
func TestEverythingEnds(t *testing.T) {
	cfg := small(t, "-sandboxes", "50", "-keep", "10")
	z := newZone(cfg, newPopulation(cfg), newSteady(cfg))
	if tally := z.run(20); tally.refused == 0 {
		t.Error("a zone without room refused nothing")
	}
	z.advance(1000)
	for _, h := range z.fleet.Hosts() {
		if h.UsedMB != 0 || h.Starting != 0 {
			t.Errorf("%s still has %d sandboxes and %d starts", h.ID, h.UsedMB, h.Starting)
		}
	}
	if len(z.events) != 0 || len(z.filling) != 0 {
		t.Errorf("%d events and %d fills are left", len(z.events), len(z.filling))
	}
}

// A scan of 1,000 functions, once each, leaves the working sets of 20 hot ones
// where they are; LRU loses them.
func TestScanLeavesTheHotFunctions(t *testing.T) {
	const room = 3 * hotFunctions * scanChunks / 2
	if kept, _ := survive(newFIFO[scanned](room), 0); kept < 0.99 {
		t.Errorf("%.1f %% kept", 100*kept)
	}
	if kept, _ := survive(newLRU[scanned](room), 0); kept > 0.01 {
		t.Errorf("LRU kept %.1f %%: the scan is none", 100*kept)
	}
	var out strings.Builder
	scan(&out)
	golden(t, "scan.txt", out.String())
}

func TestTracesAreInOrder(t *testing.T) {
	cfg := small(t)
	trace := newMerged(newSteady(cfg), newHerd(cfg))
	last, scheduled := 0., map[int]int{}
	for range 50_000 {
		s := trace.next()
		if s.at < last || s.function < 0 || s.function >= cfg.functions {
			t.Fatalf("%+v after %f", s, last)
		}
		last = s.at
	}
	h := newHerd(cfg)
	for minute := range 61 {
		for f := range cfg.functions {
			if h.due(f, minute) {
				scheduled[minute]++
			}
		}
	}
	if hour := scheduled[cfg.hourMinute]; hour < 2*scheduled[cfg.hourMinute+30] || hour == 0 {
		t.Errorf("%d start at the full hour, %d half an hour later", hour, scheduled[cfg.hourMinute+30])
	}
}

func TestDelayHasItsQuantiles(t *testing.T) {
	d := newDelay(0.036, 0.175)
	for q, want := range map[float64]float64{0.5: 0.036, 0.999: 0.175} {
		if got := d[int(q*delaySteps)]; got < want*0.97 || got > want*1.03 {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
}
