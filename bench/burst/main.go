// SPDX-License-Identifier: Apache-2.0

// Command burst measures many cold starts at once: 100 of 20 functions over 10
// images, against as many crun run of the same handlers from trees unpacked on
// the local disk. The kernel's caches are dropped before each; the worker's L1 is
// full once and empty once, the origin is a folder.
//
// The time is that until the last handler's first request to the Runtime API, for
// thaw from the first request on. What the other handlers then take to answer, and
// the end of their sandboxes, which thaw alone does, is in it. Memory is the sum of
// the peaks of the server, its loader and its holder, with the pages of the
// program, which the three share, counted once.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"thaw.dev/thaw/bench/measure"
)

// idle is how long the server keeps an idle sandbox: so short that an invocation
// of the burst that comes late does not meet one.
const idle = time.Millisecond

const (
	promisedRatio    = 1.3
	promisedMemoryMB = 400
)

func main() {
	log.SetFlags(0)
	var b burst
	flag.IntVar(&b.starts, "n", 100, "cold starts asked for at once")
	flag.IntVar(&b.functions, "functions", 20, "functions that they are of")
	rounds := flag.Int("rounds", 3, "bursts of each kind")
	layouts := flag.String("layouts", "", "folder that keeps the images built for the next run; else they are built anew and removed")
	flag.Parse()
	if err := b.run(context.Background(), *layouts, *rounds); err != nil {
		log.Fatal("bench/burst: ", err)
	}
}

// burst is the parts of the comparison.
type burst struct {
	starts, functions int

	server *measure.Bench
	names  []string // of the functions
	crun   *containers

	full, empty result // of thaw, by what L1 holds
	runs        measure.Samples
}

// result is what bursts of one kind took.
type result struct {
	took      measure.Samples
	ownMB     []int64 // the most of any round, of each process, without the program's pages
	programMB int64   // which the processes share
}

func (b *burst) run(ctx context.Context, layouts string, rounds int) (err error) {
	b.server, err = measure.Open(ctx, "--starts", strconv.Itoa(b.starts), "--sandboxes", strconv.Itoa(b.starts),
		"--memory-mb", strconv.Itoa(b.starts*measure.MemoryMB), "--queue-wait", patience.String(), "--idle", idle.String())
	if err != nil {
		return err
	}
	defer b.server.Close()
	if layouts == "" {
		layouts = b.server.Dir
	}
	layout, err := measure.BuildImages(ctx, layouts, "gzip", measure.Mix...) // umoci reads no zstd
	if err != nil {
		return err
	}
	if err := b.prepare(ctx, layout); err != nil {
		return err
	}
	if b.crun, err = openContainers(ctx, layout, b.server.Dir); err != nil {
		return err
	}
	defer b.crun.close()
	for range rounds {
		if err := b.compare(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("%d cold starts of %d functions over %d images, none failed or refused\n", b.starts, b.functions, len(measure.Mix))
	fmt.Printf("  crun run         %s\n", b.runs)
	b.print("full", b.full)
	b.print("empty", b.empty)
	return nil
}

// compare is one burst of each kind.
func (b *burst) compare(ctx context.Context) error {
	took, err := b.crun.start(b.starts, b.function)
	if err != nil {
		return fmt.Errorf("crun: %w", err)
	}
	b.runs = append(b.runs, took)
	if err := b.cold(ctx, "kernel", &b.full); err != nil {
		return fmt.Errorf("full L1: %w", err)
	}
	if err := b.cold(ctx, "l1", &b.empty); err != nil {
		return fmt.Errorf("empty L1: %w", err)
	}
	return nil
}

// attempts bounds how often a burst is begun anew because an invocation that came
// late met a sandbox that was warm by then.
const attempts = 5

// cold is one burst of nothing but cold starts, with the tier empty that is named.
func (b *burst) cold(ctx context.Context, tier string, r *result) error {
	for n := 1; ; n++ {
		err := b.round(ctx, tier, r)
		if !errors.Is(err, measure.ErrWarm) || n == attempts {
			return err
		}
	}
}

// prepare makes the functions. What ingest leaves in the server's memory ends
// with the server; each function is started once, which fills L1 and records
// what a start reads.
func (b *burst) prepare(ctx context.Context, layout string) error {
	var err error
	if b.names, err = b.server.CreateMix(ctx, layout, b.functions); err != nil {
		return err
	}
	if err := b.server.Restart(ctx); err != nil {
		return err
	}
	for _, name := range b.names {
		if _, err := b.server.Invoke(ctx, name); err != nil {
			return err
		}
	}
	return b.server.Packed(ctx)
}

// round is one burst, as it comes.
func (b *burst) round(ctx context.Context, tier string, r *result) error {
	for _, name := range b.names {
		if err := b.server.Fresh(ctx, name); err != nil {
			return err
		}
	}
	if err := b.server.Empty(ctx, tier); err != nil {
		return err
	}
	if err := measure.DropPageCache(); err != nil {
		return err
	}
	processes, err := b.processes()
	if err != nil {
		return err
	}
	mapped := make([]int64, len(processes))
	for i, pid := range processes {
		if err := measure.ResetPeak(pid); err != nil {
			return err
		}
		if mapped[i], err = measure.FilesMB(pid); err != nil {
			return err
		}
	}
	took, err := b.burst(ctx)
	if err != nil {
		return err
	}
	r.took = append(r.took, took)
	for i, pid := range processes {
		peak, err := measure.PeakMB(pid)
		if err != nil {
			return err
		}
		if len(r.ownMB) <= i {
			r.ownMB = append(r.ownMB, 0)
		}
		r.ownMB[i] = max(r.ownMB[i], peak-mapped[i])
		r.programMB = max(r.programMB, mapped[i])
	}
	return nil
}

// processes are the server, the loader and the holder.
func (b *burst) processes() ([]int, error) {
	all := []int{b.server.PID()}
	for _, name := range []string{"loader", "holder"} {
		pid, err := measure.ReadPathPID(b.server.Data, name)
		if err != nil {
			return nil, err
		}
		all = append(all, pid)
	}
	return all, nil
}

// function is which function the i-th start is of. Starts of one function follow
// one another, so that none of them is over before the last has begun, and meets
// a sandbox that is idle by then.
func (b *burst) function(i int) int { return i * b.functions / b.starts }

// burst invokes all functions at once and returns how long it took until the last
// runtime asked for its invocation.
func (b *burst) burst(ctx context.Context) (time.Duration, error) {
	var group sync.WaitGroup
	asked := make(measure.Samples, b.starts)
	errs := make([]error, b.starts)
	begin := time.Now()
	for i := range b.starts {
		group.Go(func() {
			sent := time.Since(begin)
			asked[i], errs[i] = b.server.ColdInvoke(ctx, b.names[b.function(i)])
			asked[i] += sent
		})
	}
	group.Wait()
	var warm error // of no weight beside a failure
	for i, err := range errs {
		if errors.Is(err, measure.ErrWarm) {
			warm, errs[i] = err, nil
		}
	}
	return slices.Max(asked), cmp.Or(errors.Join(errs...), warm)
}

func (b *burst) print(l1 string, r result) {
	fmt.Printf("  thaw, L1 %-5s   %s\n", l1, r.took)
	measure.Ratio(os.Stdout, fmt.Sprintf("    to crun run (promised %.1f)", promisedRatio), r.took, b.runs)
	sum := r.programMB
	for _, mb := range r.ownMB {
		sum += mb
	}
	fmt.Printf("    %d MiB resident at most: server %d, loader %d, holder %d, the program that they share %d (promised %d)\n",
		sum, r.ownMB[0], r.ownMB[1], r.ownMB[2], r.programMB, promisedMemoryMB)
}
