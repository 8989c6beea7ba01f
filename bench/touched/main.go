// SPDX-License-Identifier: Apache-2.0

// Command touched measures what a first start and a second fetch against what
// they touch: the bytes that the origin serves for a start with an empty cache,
// and the pages of 4 KiB that the same start and invocation bring into
// the page cache from a plain EROFS image with readahead off.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"path/filepath"
	"strings"

	"thaw.dev/thaw/bench/measure"
)

func main() {
	log.SetFlags(0)
	names := flag.String("images", "go-hello:1,node-api:1,py-hello:1,py-data:1,ruby-api:1,php-api:1,java-api:1", "images of bench/images, separated by commas")
	flag.Parse()
	if err := run(context.Background(), strings.Split(*names, ",")); err != nil {
		log.Fatal("bench/touched: ", err)
	}
}

func run(ctx context.Context, tags []string) error {
	b, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	layout, err := b.Images(ctx, "gzip", tags...) // umoci reads no zstd
	if err != nil {
		return err
	}
	fmt.Printf("%-14s %12s %14s %14s %8s %8s\n", "image", "touched MB", "fetched 1st MB", "fetched 2nd MB", "1st", "2nd")
	var touchedAll, firstAll, secondAll int64
	for _, tag := range tags {
		touched, err := touchedBytes(ctx, filepath.Join(b.Dir, "plain"), layout, tag)
		if err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
		first, second, err := fetched(ctx, b, layout, tag)
		if err != nil {
			return fmt.Errorf("%s: %w", tag, err)
		}
		fmt.Printf("%-14s %12.1f %14.1f %14.1f %8.2f %8.2f\n", tag, mb(touched), mb(first), mb(second), float64(first)/float64(touched), float64(second)/float64(touched))
		touchedAll, firstAll, secondAll = touchedAll+touched, firstAll+first, secondAll+second
	}
	fmt.Printf("%-14s %12.1f %14.1f %14.1f\n", "sum", mb(touchedAll), mb(firstAll), mb(secondAll))
	fmt.Printf("%-44s %.2f (promised 2.2)\n", "fetched by a first start, to touched", float64(firstAll)/float64(touchedAll))
	fmt.Printf("%-44s %.2f (promised 1.25)\n", "fetched by a second start, to touched", float64(secondAll)/float64(touchedAll))
	return nil
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// fetched returns what the origin served for the first start of a function, and
// for the second, which knows what the first has read, each with the worker's
// caches empty.
func fetched(ctx context.Context, b *measure.Bench, layout, tag string) (first, second int64, err error) {
	function := strings.ReplaceAll(tag, ":", "-")
	if err := b.Create(ctx, layout, tag, function); err != nil {
		return 0, 0, err
	}
	for _, bytes := range []*int64{&first, &second} {
		if err := b.Fresh(ctx, function); err != nil {
			return 0, 0, err
		}
		if err := b.DropL1(ctx); err != nil {
			return 0, 0, err
		}
		before, err := b.OriginBytes(ctx)
		if err != nil {
			return 0, 0, err
		}
		if _, err := b.Invoke(ctx, function); err != nil {
			return 0, 0, err
		}
		if err := b.Packed(ctx); err != nil {
			return 0, 0, err
		}
		after, err := b.OriginBytes(ctx)
		if err != nil {
			return 0, 0, err
		}
		*bytes = after - before
	}
	return first, second, nil
}
