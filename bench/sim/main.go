// SPDX-License-Identifier: Apache-2.0

// Command sim replays starts of a whole zone (by default 10^6 functions on 10^4
// workers) against the code that places them and that evicts and places chunks:
// invoke/placement, read/s3fifo as L1 uses it, and read/tier/ring with L2's
// layout. What is not ours is modelled: memcached as LRU, latencies as log-normal
// distributions through published figures, starts as traces. The same flags print
// the same figures.
//
// A start is a cold start: warm invocations reach neither placement nor caches.
// Its duration is that of a start with a full L1 plus that of fetching the
// working set, which overestimates: the fetch goes on while the sandbox boots.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// config is the flags.
type config struct {
	seed uint64

	functions, bases, workers, servers int
	rate                               float64 // starts a second
	zipf, shift, baseShift             float64
	scheduled, herdSpread              float64
	hourMinute                         int // of the trace, when it is midnight
	deployed, private                  float64
	touchMin, touchMax                 float64 // bytes
	chunkKiB                           float64

	sandboxes, starts int // a worker
	keep              float64
	l1Bytes           int64
	serverBytes       int64
	window            int
	noParity, scatter bool
	policy            func(bytes int64) policy[piece]

	boot, l1, l2P50, l2P999, originP50, originP999 float64 // seconds
	originRate, patience                           float64

	warm, measure float64 // seconds
	parallel      int     // scenarios at a time
}

func (c config) chunkBytes() float64 { return c.chunkKiB * 1024 }

func parse(args []string) (c config, scenario string, err error) {
	f := flag.NewFlagSet("sim", flag.ContinueOnError)
	f.StringVar(&scenario, "scenario", "all", "scan, zipf, cron, fresh, empty, or all")
	scale := f.Float64("scale", 1, "of functions, bases, workers, servers and starts")
	f.Uint64Var(&c.seed, "seed", 1, "of all chance")
	f.IntVar(&c.functions, "functions", 1_000_000, "in the zone")
	f.IntVar(&c.bases, "bases", 2000, "base images that the functions are built on")
	f.IntVar(&c.workers, "workers", 10_000, "in the zone")
	f.IntVar(&c.servers, "servers", 128, "of L2")
	f.Float64Var(&c.rate, "rate", 15_000, "cold starts a second, those by the clock apart")
	f.Float64Var(&c.zipf, "zipf", 1, "exponent of the popularity of functions and of base images")
	f.Float64Var(&c.shift, "shift", 15, "of the ranks of functions: at 15 the first gets 0.6 % of the starts, about 1,000 in 10 s (Lambda's bound)")
	f.Float64Var(&c.baseShift, "base-shift", 3, "of the ranks of base images: at 3 the first has 4 % of the functions")
	f.Float64Var(&c.scheduled, "scheduled", 0.5, "part of the functions that have a schedule (cron)")
	f.Float64Var(&c.herdSpread, "herd-spread", 5, "seconds by which scheduled starts are late on average")
	f.Float64Var(&c.deployed, "deployed", 0.005, "part of the starts that are the first of a new version; at 0.005 the origin serves 0.06 % of the chunks, as in Lambda (Brooker et al. 2023)")
	f.Float64Var(&c.private, "private", 0.15, "part of what a start touches that no other function has")
	f.Float64Var(&c.touchMin, "touch-min", 3e6, "bytes that a start touches, at least; the base images are spread evenly over the logarithm")
	f.Float64Var(&c.touchMax, "touch-max", 50e6, "and at most")
	f.Float64Var(&c.chunkKiB, "chunk", 188, "KiB of a chunk, the mean of docs/format/chunk.md")
	f.IntVar(&c.sandboxes, "sandboxes", 1000, "that a worker can hold")
	f.IntVar(&c.starts, "starts", 16, "under way on a worker at once (invoke/worker)")
	f.Float64Var(&c.keep, "keep", 420, "seconds that a sandbox lives (invoke/worker's idle timeout)")
	l1GB := f.Float64("l1", 1, "GB of a worker's L1")
	serverGB := f.Float64("server", 32, "GB of an L2 server")
	f.IntVar(&c.window, "window", 16, "chunks that a start fetches at a time (read/tier)")
	f.BoolVar(&c.noParity, "no-parity", false, "four stripes without a parity, to compare")
	f.BoolVar(&c.scatter, "scatter", false, "starts go to any worker, wherever the image is, to compare")
	lruL1 := f.Bool("lru", false, "L1 evicts as LRU does, to compare")
	f.Float64Var(&c.boot, "boot", 0.1, "seconds of a start with a full L1")
	f.Float64Var(&c.l1, "l1-latency", 100e-6, "seconds of a chunk from L1 (Brooker et al. 2023, as the next four)")
	f.Float64Var(&c.l2P50, "l2-p50", 550e-6, "seconds of a chunk from L2, median")
	f.Float64Var(&c.l2P999, "l2-p999", 3.7e-3, "and 99.9th percentile")
	f.Float64Var(&c.originP50, "origin-p50", 36e-3, "seconds of a chunk from the origin, median")
	f.Float64Var(&c.originP999, "origin-p999", 175e-3, "and 99.9th percentile")
	f.Float64Var(&c.originRate, "origin-rate", 100_000, "requests that the origin serves a second; more queue")
	f.Float64Var(&c.patience, "patience", 30, "seconds of fetching after which a start has failed (read/mount's bound of a read)")
	f.Float64Var(&c.warm, "warm", 420, "seconds before measuring begins, to fill L1; L2 is full from the beginning")
	f.Float64Var(&c.measure, "measure", 120, "seconds that are measured")
	f.IntVar(&c.parallel, "parallel", 2, "scenarios at a time; each takes about 1.5 GB at scale 1")
	if err := f.Parse(args); err != nil {
		return c, "", err
	}
	scaled := func(n *int, least int) { *n = max(least, int(float64(*n)**scale)) }
	scaled(&c.functions, 100)
	scaled(&c.bases, 10)
	scaled(&c.workers, 10)
	scaled(&c.servers, 8)
	c.rate *= *scale
	c.originRate *= *scale
	c.l1Bytes, c.serverBytes = int64(*l1GB*1e9), int64(*serverGB*1e9)
	c.hourMinute = int(c.warm)/60 + 1
	c.policy = newFIFO[piece]
	if *lruL1 {
		c.policy = func(bytes int64) policy[piece] { return newLRU[piece](bytes) }
	}
	return c, scenario, nil
}

func main() {
	cfg, scenario, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	debug.SetGCPercent(40) // a large heap that only grows
	if !play(os.Stdout, cfg, scenario) {
		fmt.Fprintf(os.Stderr, "bench/sim: there is no scenario %q\n", scenario)
		os.Exit(2)
	}
}

// scenarios by name, in the order of their output.
var scenarios = []struct {
	name string
	run  func(io.Writer, config)
}{
	{"scan", func(w io.Writer, _ config) { scan(w) }},
	{"zipf", zipfAndDeaths}, {"cron", cron}, {"fresh", fresh}, {"empty", empty},
}

// play runs a scenario, or all, cfg.parallel of them at a time.
func play(w io.Writer, cfg config, scenario string) (known bool) {
	outputs := make([]chan []byte, len(scenarios))
	slots := make(chan struct{}, max(1, cfg.parallel))
	for i, s := range scenarios {
		outputs[i] = make(chan []byte, 1)
		if scenario != s.name && scenario != "all" {
			close(outputs[i])
			continue
		}
		known = true
		go func() { // ends by itself: the output below waits for it
			slots <- struct{}{}
			defer func() { <-slots }()
			var b bytes.Buffer
			s.run(&b, cfg)
			outputs[i] <- b.Bytes()
		}()
	}
	for _, o := range outputs {
		_, _ = w.Write(<-o) // standard output: nobody to tell if it fails
	}
	return known
}
