// SPDX-License-Identifier: Apache-2.0

// Command plot draws how long the hits of each tier took, as empirical
// distributions (eCDF) in one SVG picture, from what thaw cache stats --json
// prints: since the loader's start, or between two such moments.
//
//	thaw cache stats --json | plot > tiers.svg
//	plot -o tiers.svg BEFORE.json AFTER.json
//
// A name "-" is the standard input. A tier without hits has no curve.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"

	"thaw.dev/thaw/read/latency"
)

func main() {
	log.SetFlags(0)
	out := flag.String("o", "", "file of the picture; else the standard output")
	title := flag.String("title", "Time of a hit, by tier", "heading of the picture")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: plot [-o FILE] [-title TEXT] [[BEFORE.json] AFTER.json]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*out, *title, flag.Args()); err != nil {
		log.Fatal("bench/plot: ", err)
	}
}

func run(out, title string, files []string) error {
	if len(files) == 0 {
		files = []string{"-"}
	}
	curves, err := readFile(files[len(files)-1])
	if err != nil {
		return err
	}
	if len(files) == 2 {
		before, err := readFile(files[0])
		if err != nil {
			return err
		}
		if curves, err = since(before, curves); err != nil {
			return err
		}
	}
	if out == "" {
		return draw(os.Stdout, title, curves)
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := draw(file, title, curves); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// curve is a tier and what its hits took.
type curve struct {
	Name    string           `json:"name"`
	Latency latency.Snapshot `json:"latency"`
}

func readFile(name string) ([]curve, error) {
	if name == "-" {
		return read("the standard input", os.Stdin)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return read(name, file)
}

func read(name string, r io.Reader) ([]curve, error) {
	var curves []curve
	if err := json.NewDecoder(r).Decode(&curves); err != nil {
		return nil, fmt.Errorf("%s is not what thaw cache stats --json prints: %w", name, err)
	}
	return curves, nil
}

// since leaves of after what was not in before yet, tier by tier.
func since(before, after []curve) ([]curve, error) {
	counts := map[string]map[int64]int64{} // tier -> bucket -> count
	for _, c := range before {
		counts[c.Name] = map[int64]int64{}
		for _, b := range c.Latency.Buckets {
			counts[c.Name][b.BelowNanos] = b.Count
		}
	}
	var left []curve
	for _, c := range after {
		d, known := curve{Name: c.Name}, counts[c.Name]
		for _, b := range c.Latency.Buckets {
			b.Count -= known[b.BelowNanos]
			delete(known, b.BelowNanos)
			if b.Count < 0 {
				return nil, restarted(c.Name)
			}
			if b.Count > 0 {
				d.Latency.Count += b.Count
				d.Latency.Buckets = append(d.Latency.Buckets, b)
			}
		}
		if len(known) > 0 {
			return nil, restarted(c.Name)
		}
		left = append(left, d)
	}
	return left, nil
}

func restarted(tier string) error {
	return fmt.Errorf("%s had more hits before than after: the files are in the wrong order, or the loader was restarted between them", tier)
}
