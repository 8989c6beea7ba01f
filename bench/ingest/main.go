// SPDX-License-Identifier: Apache-2.0

// Command ingest measures how fast an image becomes a function's: from
// create-function until the function is active, in bytes of uncompressed layer
// a second, its layers stored plain, with zstd and with gzip. Beside it, in the
// same run, what others make of the same layers: tar, with the digests checked
// on the way as an ingest checks them, and umoci.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"time"

	"thaw.dev/thaw/bench/measure"
)

func main() {
	log.SetFlags(0)
	tag := flag.String("image", "big:1", "image of bench/images")
	forms := flag.String("stores", "plain,zstd,gzip", "how its layers are stored, separated by commas")
	rounds := flag.Int("n", 3, "ingests of each, the store empty before each")
	umoci := flag.Bool("umoci", true, "also unpack with umoci, where it reads the layers")
	layouts := flag.String("layouts", "", "folder that keeps the images built for the next run; else they are built anew and removed")
	flag.Parse()
	for form := range strings.SplitSeq(*forms, ",") {
		b := bench{tag: *tag, form: form, umoci: *umoci && form == "gzip"}
		if err := b.run(context.Background(), *layouts, *rounds); err != nil {
			log.Fatalf("bench/ingest: %s: %v", form, err)
		}
	}
}

// bench is the rounds on one image in one form.
type bench struct {
	tag, form string
	umoci     bool // which knows neither plain layers nor zstd

	layerBytes, files int64 // as the server tells
	ingests, tars     []cost
	umocis            []cost
	decompressions    []cost
}

// cost is what one pass over the layers took. The memory and the temporary
// disk are of an ingest alone.
type cost struct {
	took, processor time.Duration
	residentMB      int64
	tempMB          int64
}

func (b *bench) run(ctx context.Context, layouts string, rounds int) error {
	dir, err := os.MkdirTemp("", "thaw-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	layout, err := measure.BuildImages(ctx, cmp.Or(layouts, dir), b.form, b.tag)
	if err != nil {
		return err
	}
	for range rounds {
		if err := b.ingest(ctx, layout); err != nil {
			return err
		}
		c, err := unpackWithTar(ctx, dir, layout, b.tag, b.form)
		if err != nil {
			return err
		}
		b.tars = append(b.tars, c)
		if b.form != "plain" {
			if c, err = decompress(ctx, layout, b.tag, b.form); err != nil {
				return err
			}
			b.decompressions = append(b.decompressions, c)
		}
		if b.umoci {
			if c, err = unpackWithUmoci(ctx, dir, layout, b.tag); err != nil {
				return err
			}
			b.umocis = append(b.umocis, c)
		}
	}
	b.print()
	return nil
}

// ingest makes a function of the image on a server whose store is empty.
func (b *bench) ingest(ctx context.Context, layout string) error {
	server, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := server.Push(ctx, layout, b.tag); err != nil {
		return err
	}
	before, err := measure.ProcessorTimeOfAll(server.PID())
	if err != nil {
		return err
	}
	watch := watchProcess(server.PID())
	start := time.Now()
	err = server.CreatePushed(ctx, b.tag, "ingest")
	took := time.Since(start)
	c, watched := watch.end()
	if err != nil {
		return err
	}
	if watched != nil {
		return watched
	}
	after, err := measure.ProcessorTimeOfAll(server.PID())
	if err != nil {
		return err
	}
	c.took, c.processor = took, after-before
	b.ingests = append(b.ingests, c)
	var report struct {
		LayerBytes int64 `json:"layerBytes"`
		Files      int64 `json:"files"`
	}
	if err := server.ThawJSON(ctx, &report, "image", "inspect", "ingest"); err != nil {
		return err
	}
	b.layerBytes, b.files = report.LayerBytes, report.Files
	return nil
}

func (b *bench) print() {
	fmt.Printf("%s, %s layers: %.0f MB uncompressed, %d files (n=%d)\n", b.tag, b.form, float64(b.layerBytes)/1e6, b.files, len(b.ingests))
	ingest := median(b.ingests)
	b.line("create to active (250 MB/s promised)", ingest)
	fmt.Printf("  %-38s %d MB resident at most (512 MiB promised), %d MB of temporary disk\n", "", ingest.residentMB, ingest.tempMB)
	b.compare("tar -x, digests checked", ingest, b.tars)
	b.compare("umoci unpack", ingest, b.umocis)
	b.compare(unpackers[b.form]+" alone", ingest, b.decompressions)
}

func (b *bench) compare(name string, ingest cost, peers []cost) {
	if len(peers) == 0 {
		return
	}
	peer := median(peers)
	b.line(name, peer)
	fmt.Printf("  %-38s %.2f of its time, %.2f of its processor time\n", "ingest to that",
		ingest.took.Seconds()/peer.took.Seconds(), ingest.processor.Seconds()/peer.processor.Seconds())
}

func (b *bench) line(name string, c cost) {
	fmt.Printf("  %-38s %6.2f s  %4.0f MB/s  %6.2f s of processor, %.1f ns a byte\n", name,
		c.took.Seconds(), float64(b.layerBytes)/1e6/c.took.Seconds(), c.processor.Seconds(), c.processor.Seconds()*1e9/float64(b.layerBytes))
}

// median is the round of the median time, with the most memory and disk that
// any round took.
func median(all []cost) cost {
	sorted := slices.SortedFunc(slices.Values(all), func(x, y cost) int { return int(x.took - y.took) })
	c := sorted[(len(sorted)-1)/2]
	for _, other := range all {
		c.residentMB, c.tempMB = max(c.residentMB, other.residentMB), max(c.tempMB, other.tempMB)
	}
	return c
}
