// SPDX-License-Identifier: Apache-2.0

// Command peers measures cold starts on a worker that has nothing of the image,
// its caches empty and the zone's cache warm, beside what people use: containerd
// with a full pull, and stargz-snapshotter with a lazy pull of an eStargz image
// optimized for this very start, both from a registry on loopback and into a
// containerd with nothing in it. It also measures thaw with a full worker cache,
// with what the start before has opened in memory, and with nothing in memory.
//
// The handlers are the same; each start lasts from its cause, an invocation or
// the pull, to the handler's first request to the Runtime API. The page cache is
// dropped before each; the peers' own programs are read in again. The starts of
// a round follow one another, so that all meet the same machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/internal/memcachedtest"
)

const (
	serverCount = 6
	serverMB    = "256"
)

func main() {
	log.SetFlags(0)
	runs := flag.Int("n", 10, "starts of each kind")
	names := flag.String("images", "go-medium:1,py-medium:1,node-medium:1,py-sci:1", "images of bench/images, separated by commas")
	dir := flag.String("dir", "", "folder that keeps the images for the next run; none are kept without")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, strings.Split(*names, ","), *runs); err != nil {
		log.Fatal("bench/peers: ", err)
	}
}

// bench is thaw on a warm zone cache, and what the peers pull from.
type bench struct {
	*measure.Bench
	programs programs
	registry *registry
	api      *measure.RuntimeAPI // what the peers' handlers ask
	layout   string
}

func run(ctx context.Context, dir string, tags []string, runs int) error {
	installed, err := install(ctx)
	if err != nil {
		return err
	}
	servers, err := memcachedtest.StartAll(ctx, serverCount, "-m", serverMB)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range servers {
			s.Kill()
		}
	}()
	server, err := measure.Open(ctx, "--l2", strings.Join(memcachedtest.Addresses(servers), ","))
	if err != nil {
		return err
	}
	defer server.Close()
	b := &bench{Bench: server, programs: installed}
	if dir == "" {
		dir = b.Dir
	}
	if b.layout, err = measure.BuildImages(ctx, dir, "gzip", tags...); err != nil {
		return err
	}
	if err := b.Bystander(ctx); err != nil {
		return err
	}
	if b.registry, err = installed.startRegistry(ctx, b.Dir); err != nil {
		return err
	}
	defer b.registry.stop()
	if b.api, err = measure.NewRuntimeAPI(); err != nil {
		return err
	}
	defer b.api.Close()
	for _, tag := range tags {
		if err := b.compare(ctx, tag, runs); err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
	}
	return nil
}

// figures are the samples of one image.
type figures struct {
	l2, l1, disk, full, fullPull, lazy, lazyPull measure.Samples

	origin int64 // bytes asked of the origin by the starts with L2 warm
}

func (b *bench) compare(ctx context.Context, tag string, runs int) error {
	function, _, _ := strings.Cut(tag, ":")
	if err := b.Create(ctx, b.layout, tag, function); err != nil {
		return err
	}
	if err := b.registry.push(ctx, b.layout, tag); err != nil {
		return err
	}
	ref := b.registry.reference(tag)
	if err := b.optimize(ctx, ref, ref+"-esgz"); err != nil {
		return err
	}
	if err := b.warm(ctx, function); err != nil {
		return err
	}
	var f figures
	for range runs {
		if err := b.round(ctx, function, ref, &f); err != nil {
			return err
		}
	}
	fmt.Printf("%s\n  thaw, empty L1, warm L2   %s\n  thaw, full L1             %s\n  thaw, L1 on disk          %s\n", tag, f.l2, f.l1, f.disk)
	fmt.Printf("  containerd, full pull     %s\n    of it the pull          %s\n", f.full, f.fullPull)
	fmt.Printf("  stargz, lazy pull         %s\n    of it the pull          %s\n", f.lazy, f.lazyPull)
	measure.Ratio(os.Stdout, "  containerd to thaw (promised at least 20)", f.full, f.l2)
	measure.Ratio(os.Stdout, "  stargz to thaw (promised at least 4)", f.lazy, f.l2)
	measure.Ratio(os.Stdout, "  thaw, empty to full L1 (promised 1.3)", f.l2, f.l1)
	measure.Ratio(os.Stdout, "  thaw, empty L1 to L1 on disk", f.l2, f.disk)
	fmt.Printf("  %-42s %d bytes\n", "asked of the origin with L2 warm", f.origin)
	return nil
}

// round takes one sample of each.
func (b *bench) round(ctx context.Context, function, ref string, f *figures) error {
	took, err := b.ColdStartFromDisk(ctx, function)
	if err != nil {
		return err
	}
	f.disk = append(f.disk, took)
	before, err := b.OriginBytes(ctx)
	if err != nil {
		return err
	}
	if took, err = b.ColdStart(ctx, function, "l1"); err != nil {
		return err
	}
	f.l2 = append(f.l2, took)
	after, err := b.OriginBytes(ctx)
	if err != nil {
		return err
	}
	f.origin += after - before
	if took, err = b.ColdStart(ctx, function, "kernel"); err != nil {
		return err
	}
	f.l1 = append(f.l1, took)
	pull, whole, err := b.start(ctx, "overlayfs", ref)
	if err != nil {
		return err
	}
	f.full, f.fullPull = append(f.full, whole), append(f.fullPull, pull)
	if pull, whole, err = b.start(ctx, "stargz", ref+"-esgz"); err != nil {
		return err
	}
	f.lazy, f.lazyPull = append(f.lazy, whole), append(f.lazyPull, pull)
	return nil
}

// warmStarts bounds the starts until L2 is warm; the second mostly finds it so.
const warmStarts = 10

// warm starts a function, as other workers of the zone have, until a start asks
// the origin for nothing: then L2 has what it reads, and its working set is known.
func (b *bench) warm(ctx context.Context, function string) error {
	if _, err := b.Invoke(ctx, function); err != nil {
		return err
	}
	if err := b.Packed(ctx); err != nil {
		return err
	}
	for range warmStarts {
		before, err := b.OriginBytes(ctx)
		if err != nil {
			return err
		}
		if _, err := b.ColdStart(ctx, function, "l1"); err != nil {
			return err
		}
		after, err := b.OriginBytes(ctx)
		if err != nil || after == before {
			return err
		}
	}
	return fmt.Errorf("after %d starts L2 still lacks what a start reads", warmStarts)
}
