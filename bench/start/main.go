// SPDX-License-Identifier: Apache-2.0

// Command start measures cold starts with a full worker cache against starting
// the same handler from an unpacked tree on the local disk: by plain fork,
// chroot and exec, and by crun. The kernel's page cache is dropped before each
// start. A start lasts from its cause to the handler's first request to the
// Runtime API; for thaw from the invocation's request on. Measured beside are a
// worker whose own cache is empty, but that knows what the version's starts read,
// and one whose cache is full on disk, but has nothing in memory: the others hold
// the chunks of the start before, opened.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/bench/peer"
)

// kind is an image and the promised ratio of its starts to plain ones.
type kind struct {
	tag   string
	limit float64
}

var kinds = []kind{{"go-hello:1", 2}, {"py-hello:1", 1.3}, {"node-api:1", 1.3}}

func main() {
	log.SetFlags(0)
	runs := flag.Int("n", 20, "starts of each kind")
	flag.Parse()
	if err := run(context.Background(), *runs); err != nil {
		log.Fatal("bench/start: ", err)
	}
}

func run(ctx context.Context, runs int) error {
	b, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	var tags []string
	for _, k := range kinds {
		tags = append(tags, k.tag)
	}
	layout, err := b.Images(ctx, "gzip", tags...)
	if err != nil {
		return err
	}
	if err := b.Bystander(ctx); err != nil {
		return err
	}
	for _, k := range kinds {
		if err := compare(ctx, b, layout, k, runs); err != nil {
			return fmt.Errorf("%s: %w", k.tag, err)
		}
	}
	return nil
}

func compare(ctx context.Context, b *measure.Bench, layout string, k kind, runs int) error {
	function, _, _ := strings.Cut(k.tag, ":")
	if err := b.Create(ctx, layout, k.tag, function); err != nil {
		return err
	}
	handler, err := peer.Unpack(ctx, layout, k.tag, filepath.Join(b.Dir, "bundle-"+function))
	if err != nil {
		return err
	}
	api, err := measure.NewRuntimeAPI()
	if err != nil {
		return err
	}
	defer api.Close()
	containers, err := peer.OpenCrun()
	if err != nil {
		return err
	}
	defer containers.Close()
	if err := handler.Configure(api.Environ()); err != nil {
		return err
	}
	if _, err := b.Invoke(ctx, function); err != nil { // fills L1
		return err
	}
	if err := b.Packed(ctx); err != nil {
		return err
	}
	var full, disk, empty, plain, crun measure.Samples
	for i := range runs {
		took, err := b.ColdStartFromDisk(ctx, function)
		if err != nil {
			return err
		}
		disk = append(disk, took)
		for _, s := range []struct {
			drop    string
			samples *measure.Samples
		}{{"kernel", &full}, {"l1", &empty}} {
			took, err := b.ColdStart(ctx, function, s.drop)
			if err != nil {
				return err
			}
			*s.samples = append(*s.samples, took)
		}
		if err := measure.DropPageCache(); err != nil {
			return err
		}
		took, err = api.Start(handler.Chroot(api.Environ()), func() {})
		if err != nil {
			return err
		}
		plain = append(plain, took)
		id := fmt.Sprintf("thaw-bench-%d-%d", os.Getpid(), i)
		if err := measure.DropPageCache(); err != nil {
			return err
		}
		container := containers.Container(handler, id)
		if took, err = api.StartBy(container.Cmd, container.Start, container.Remove); err != nil {
			return err
		}
		crun = append(crun, took)
	}
	fmt.Printf("%s\n  thaw, full L1     %s\n  thaw, L1 on disk  %s\n  thaw, empty L1    %s\n  fork+chroot+exec  %s\n  crun run          %s\n", k.tag, full, disk, empty, plain, crun)
	measure.Ratio(os.Stdout, fmt.Sprintf("  full L1 to fork+chroot+exec (promised %.1f)", k.limit), full, plain)
	measure.Ratio(os.Stdout, "  full L1 to crun run (promised below 1)", full, crun)
	measure.Ratio(os.Stdout, "  empty L1 to full L1 (promised 1.15)", empty, full)
	measure.Ratio(os.Stdout, "  empty L1 to L1 on disk", empty, disk)
	return nil
}
