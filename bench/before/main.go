// SPDX-License-Identifier: Apache-2.0

// Command before runs benchmarks of this tree and of an earlier commit in turn,
// on the same machine within the same minutes, and prints their figures side
// by side: the machine's own speed changes more from hour to hour than a change
// of the code does.
//
//	go run ./bench/before -commit HEAD~10 -rounds 3 start 'warm -n 500' sandbox burst
//
// A benchmark may be followed by flags for it. Figures are the medians of the
// rounds, ratios the medians of the ratios of each round.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	commit := flag.String("commit", "HEAD~1", "what to compare with")
	rounds := flag.Int("rounds", 3, "runs of each benchmark in each tree")
	flag.Parse()
	if err := run(context.Background(), *commit, *rounds, flag.Args()); err != nil {
		log.Fatal("bench/before: ", err)
	}
}

func run(ctx context.Context, commit string, rounds int, benchmarks []string) error {
	if len(benchmarks) == 0 {
		benchmarks = []string{"start", "warm", "sandbox", "burst"}
	}
	dir, err := os.MkdirTemp("", "thaw-before-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	before := filepath.Join(dir, "tree")
	if _, err := command(ctx, ".", "git", "worktree", "add", "--detach", before, commit); err != nil {
		return err
	}
	defer func() {
		_, _ = command(context.WithoutCancel(ctx), ".", "git", "worktree", "remove", "--force", before)
	}()
	if err := shareCache(before); err != nil {
		return err
	}
	for _, tree := range []string{".", before} {
		if _, err := command(ctx, tree, "make", "build"); err != nil {
			return err
		}
	}
	for _, b := range benchmarks {
		fmt.Println("bench/" + b)
		if err := compare(ctx, strings.Fields(b), before, rounds); err != nil {
			return err
		}
	}
	return nil
}

// shareCache has the other tree use what this one has downloaded and built.
func shareCache(before string) error {
	cache, err := filepath.Abs(".cache")
	if err != nil {
		return err
	}
	return os.Symlink(cache, filepath.Join(before, ".cache"))
}

// compare runs one benchmark in both trees, each first in every other round.
func compare(ctx context.Context, benchmark []string, before string, rounds int) error {
	var labels []string
	values := map[string][2][]float64{}
	for round := range rounds {
		for turn := range 2 {
			side := (round + turn) % 2
			out, err := command(ctx, []string{".", before}[side], "go", append([]string{"run", "./bench/" + benchmark[0]}, benchmark[1:]...)...)
			if err != nil {
				return err
			}
			for _, f := range figures(out) {
				v := values[f.label]
				if v[0] == nil && v[1] == nil {
					labels = append(labels, f.label)
				}
				v[side] = append(v[side], f.value)
				values[f.label] = v
			}
		}
	}
	fmt.Printf("  %-70s %10s %10s %6s\n", "", "now", "before", "ratio")
	for _, label := range labels {
		v := values[label]
		if len(v[0]) != rounds || len(v[1]) != rounds {
			continue // one of the trees does not measure it
		}
		ratios := make([]float64, rounds)
		for i := range ratios {
			ratios[i] = v[0][i] / v[1][i]
		}
		fmt.Printf("  %-70s %10.2f %10.2f %6.2f\n", label, median(v[0]), median(v[1]), median(ratios))
	}
	return nil
}

// figure is a number that a benchmark printed, and what it is of.
type figure struct {
	label string
	value float64
}

var (
	p50    = regexp.MustCompile(`p50\s+([0-9.]+)`)
	number = regexp.MustCompile(`(?:^|\s)([0-9]+\.[0-9]+)(?:\s|$)|\s([0-9]+)(?:\s|$)`)
)

// figures returns one figure of each line that has any: its p50, or else its
// first number. A line that is indented belongs to the last that is not.
func figures(out string) []figure {
	var all []figure
	section := ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		indented := strings.HasPrefix(line, " ")
		at := p50.FindStringSubmatchIndex(line)
		if at == nil {
			at = number.FindStringSubmatchIndex(line)
		}
		if at == nil {
			if !indented {
				section = line
			}
			continue
		}
		group := at[2:4]
		if group[0] < 0 {
			group = at[4:6]
		}
		value, err := strconv.ParseFloat(line[group[0]:group[1]], 64)
		if err != nil {
			continue
		}
		label, _, _ := strings.Cut(line[:group[0]], " min ")
		label = strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimSpace(label), "p50")), " ")
		if indented {
			label = section + ": " + label
		}
		all = append(all, figure{label, value})
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// command runs a command in a folder and returns what it printed to stdout.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out), nil
}
