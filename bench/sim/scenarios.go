// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

func head(w io.Writer, what string, cfg config) {
	fmt.Fprintf(w, "%s: %d functions, %d workers with %g GB of L1, %d L2 servers of %g GB, seed %d\n",
		what, cfg.functions, cfg.workers, float64(cfg.l1Bytes)/1e9, cfg.servers, float64(cfg.serverBytes)/1e9, cfg.seed)
}

// zipfAndDeaths is a zone in its steady state; then one L2 server dies, then one
// in twenty of them, and are taken out of the list.
func zipfAndDeaths(w io.Writer, cfg config) {
	z := newZone(cfg, newPopulation(cfg), newSteady(cfg))
	z.l2.warm()
	z.run(cfg.warm)
	head(w, "zipf", cfg)
	t := z.run(cfg.warm + cfg.measure)
	t.print(w, cfg)

	more := max(2, cfg.servers/20)
	fmt.Fprintf(w, "  L2 servers die: one, then %d, which are then taken out of the list\n", more)
	fmt.Fprint(w, rowHead)
	step := cfg.measure / 6
	for i := range 10 {
		switch i {
		case 2:
			z.l2.kill(z.l2.servers[0])
			fmt.Fprintln(w, "  one is dead")
		case 4:
			for _, s := range z.l2.servers[1 : 1+more] {
				z.l2.kill(s)
			}
			fmt.Fprintf(w, "  %d are dead\n", 1+more)
		case 6:
			z.l2.forget()
			fmt.Fprintln(w, "  they are taken out of the list")
		}
		t := z.run(z.now + step)
		t.row(w)
	}
	fmt.Fprintln(w)
}

// cron is the steady state with the scheduled functions beside it, over midnight.
func cron(w io.Writer, cfg config) {
	z := newZone(cfg, newPopulation(cfg), newMerged(newSteady(cfg), newHerd(cfg)))
	z.l2.warm()
	hour := 60 * float64(cfg.hourMinute)
	z.run(hour - 30)
	head(w, "cron", cfg)
	before := z.run(hour)
	fmt.Fprintln(w, " the last 30 s before midnight")
	before.print(w, cfg)
	after := z.run(hour + 30)
	fmt.Fprintln(w, " the first 30 s after midnight")
	after.print(w, cfg)
	late := z.run(hour + 60)
	fmt.Fprintln(w, " the next 30 s")
	late.print(w, cfg)
	fmt.Fprintln(w)
}

// fresh begins with L1 empty on all workers, and L2 full: as after an upgrade that
// replaces them all at once. It is the most that L2 ever has to serve.
func fresh(w io.Writer, cfg config) {
	z := newZone(cfg, newPopulation(cfg), newSteady(cfg))
	z.l2.warm()
	head(w, "fresh", cfg)
	fmt.Fprint(w, rowHead)
	for _, at := range []float64{2, 5, 10, 20, 40, 60} {
		t := z.run(at)
		t.row(w)
	}
	fmt.Fprintln(w)
}

// warmAgain is the part of the chunks, in per cent, that the caches serve in a zone
// that has recovered from having been empty.
const warmAgain = 95

// empty begins with all tiers empty and the whole load: with the bound on the
// starts of a worker that is configured, and with the least.
func empty(w io.Writer, cfg config) {
	for _, starts := range []int{cfg.starts, 1} {
		cfg.starts = starts
		z := newZone(cfg, newPopulation(cfg), newSteady(cfg))
		head(w, fmt.Sprintf("empty, at most %d starts at once on a worker", starts), cfg)
		fmt.Fprint(w, rowHead)
		warm, asked, again := 0., int64(0), int64(0)
		for _, at := range []float64{1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120} {
			t := z.run(at)
			t.row(w)
			asked, again = asked+t.origin, again+t.again
			if t.share(t.origin) > 100-warmAgain || t.refused > 0 {
				warm = at
			}
		}
		fmt.Fprintf(w, "  from %.0f s on, nothing is refused and the caches serve %d %%; %.1f %% of the origin's requests were for what another worker was fetching\n\n",
			warm, warmAgain, 100*float64(again)/float64(max(asked, 1)))
	}
}
