// SPDX-License-Identifier: Apache-2.0

// Command size measures whether a cold start knows how large the image is: the
// same handler in an image of 10 MiB and one of 10 GiB, the worker's cache
// empty, in turn.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/internal/trace"
)

func main() {
	log.SetFlags(0)
	runs := flag.Int("n", 20, "cold starts of each image")
	large := flag.Int("large", 10200, "size of the large image, in MiB; Lambda's limit is 10,240 with the handler")
	flag.Parse()
	if err := run(context.Background(), *runs, *large); err != nil {
		log.Fatal("bench/size: ", err)
	}
}

func run(ctx context.Context, runs, large int) error {
	b, err := measure.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	tags := []string{"fill:4", fmt.Sprintf("fill:%d", large)}
	layout, err := b.Images(ctx, "plain", tags...)
	if err != nil {
		return err
	}
	functions := []string{"small", "large"}
	for i, tag := range tags {
		if err := b.Create(ctx, layout, tag, functions[i]); err != nil {
			return err
		}
	}
	cold, fetched := make([]measure.Samples, 2), make([]int64, 2)
	for range runs {
		for i, function := range functions {
			if err := b.Fresh(ctx, function); err != nil {
				return err
			}
			if err := b.DropL1(ctx); err != nil {
				return err
			}
			before, err := b.OriginBytes(ctx)
			if err != nil {
				return err
			}
			took, err := b.Invoke(ctx, function)
			if err != nil {
				return err
			}
			after, err := b.OriginBytes(ctx)
			if err != nil {
				return err
			}
			cold[i], fetched[i] = append(cold[i], took), fetched[i]+after-before
		}
	}
	for i, tag := range tags {
		fmt.Printf("cold start %-12s %s  fetched %.2f MB each\n", tag, cold[i], float64(fetched[i])/float64(runs)/1e6)
	}
	measure.Ratio(os.Stdout, "cold start, large to small", cold[1], cold[0])
	fmt.Printf("%-44s %.2f\n", "bytes fetched, large to small", float64(fetched[1])/float64(fetched[0]))
	opening, err := openings(ctx, b)
	if err != nil {
		return err
	}
	for i, tag := range tags {
		fmt.Printf("manifest and mount %-8s %s\n", tag, opening[functions[i]])
	}
	more := opening["large"].Quantile(0.5) - opening["small"].Quantile(0.5)
	fmt.Printf("%-44s p50 %.2f ms (promised at most 5)\n", "opening, large more than small", more.Seconds()*1e3)
	return nil
}

// openings are how long the image of each cold start took to be opened and
// mounted, by function, as the traces tell.
func openings(ctx context.Context, b *measure.Bench) (map[string]measure.Samples, error) {
	var traces []trace.Trace
	if err := b.ThawJSON(ctx, &traces, "trace"); err != nil {
		return nil, err
	}
	byFunction := map[string]measure.Samples{}
	for _, t := range traces {
		for _, s := range t.Spans {
			if t.Cold && s.Name == "attach" {
				byFunction[t.Function] = append(byFunction[t.Function], s.Took)
			}
		}
	}
	return byFunction, nil
}
