// SPDX-License-Identifier: Apache-2.0

// Command neighbours measures what a tenant notices of others that take all they
// can get: a warm function that is called fifty times a second, one whose
// every start is cold, and where it matters a push with a new function; first
// alone, then beside 1 and 8 abusers, each a tenant of its own or a stranger.
//
//	go run ./bench/neighbours                            # all, with bin/thaw; -list says which there are
//	go run ./bench/neighbours -only print,headers
//	go run ./bench/neighbours -before OLDER/bin/thaw     # the same beside an older program, in one run
//	go run ./bench/neighbours -thaw OTHER/bin/thaw
//
// Promised: a p99 of the warm function of at most 1.5 times that alone, or 5 ms;
// a p50 of the cold one of at most 1.5 times that alone; no error; and server,
// loader and holder together within 512 MiB. The last column is what the abuser
// was told most often.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"thaw.dev/thaw/internal/livetest"
)

// options are the flags of a run.
type options struct {
	only     []string
	counts   []int
	seconds  float64
	layouts  string
	programs []program
}

// program is a thaw to measure.
type program struct{ name, path string }

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == abuseArg {
		if err := abuse(os.Stdin, os.Stdout); err != nil {
			log.Fatal("abuse: ", err)
		}
		return
	}
	only := flag.String("only", "", "scenarios, separated by commas; all without")
	counts := flag.String("abusers", "1,8", "how many abusers, one after the other")
	seconds := flag.Float64("seconds", 4, "how long to measure beside the abusers, each time")
	now := flag.String("thaw", "", "program to measure; bin/thaw without")
	before := flag.String("before", "", "an older program to measure as well")
	layouts := flag.String("images", "", "folder that keeps the victim's images for the next run")
	list := flag.Bool("list", false, "say which scenarios there are")
	flag.Parse()
	if *list {
		for _, s := range scenarios {
			fmt.Printf("%-12s %s\n", s.name, s.what)
		}
		return
	}
	o, err := parse(*only, *counts, *now, *before)
	if err != nil {
		log.Fatal("bench/neighbours: ", err)
	}
	o.seconds, o.layouts = *seconds, *layouts
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		log.Fatal("bench/neighbours: ", err)
	}
}

func parse(only, counts, now, before string) (options, error) {
	var o options
	for _, text := range strings.Split(counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostAbusers {
			return o, fmt.Errorf("-abusers %s: 1 to %d each", counts, mostAbusers)
		}
		o.counts = append(o.counts, n)
	}
	for _, name := range strings.FieldsFunc(only, func(r rune) bool { return r == ',' }) {
		if find(name) == nil {
			return o, fmt.Errorf("-only %s: there is no such scenario, see -list", name)
		}
		o.only = append(o.only, name)
	}
	if now == "" {
		root, err := livetest.Root()
		if err != nil {
			return o, err
		}
		now = filepath.Join(root, "bin", "thaw")
	}
	o.programs = []program{{"now", now}}
	if before != "" {
		o.programs = []program{{"before", before}, {"now", now}}
	}
	for i := range o.programs {
		path, err := filepath.EvalSymlinks(o.programs[i].path)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return o, err
		}
		o.programs[i].path = path
	}
	return o, nil
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "thaw-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var worlds []*world
	for _, p := range o.programs {
		w, err := openWorld(ctx, filepath.Join(dir, p.name), o.layouts, p)
		if err != nil {
			return err
		}
		defer w.close()
		worlds = append(worlds, w)
	}
	heading(os.Stdout)
	var failed []error // what could not be measured
	for _, s := range scenarios {
		if !s.chosen(o.only) {
			continue
		}
		for _, w := range worlds {
			if err := w.play(ctx, s, o); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				failed = append(failed, fmt.Errorf("%s (%s): %w", s.name, w.program.name, err))
				w.giveUp()
			}
		}
	}
	for _, w := range worlds {
		if err := w.control(ctx, o); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// play measures one scenario: alone, then beside each number of abusers. What an
// abuse leaves in the data folder must not be in the next one's way, so a server
// that it ended begins with a new one.
func (w *world) play(ctx context.Context, s *scenario, o options) error {
	if err := w.start(ctx, s); err != nil {
		return err
	}
	quiet, err := w.measure(ctx, s, o.seconds)
	if err != nil {
		return err
	}
	for _, n := range o.counts {
		if err := w.restart(ctx, s); err != nil {
			return err
		}
		beside, err := w.beside(ctx, s, n, o.seconds)
		if err != nil {
			return err
		}
		row(os.Stdout, s.name, w.program.name, n, quiet, beside)
	}
	return w.stop()
}

// control measures once more without anybody, to show what the machine did meanwhile.
func (w *world) control(ctx context.Context, o options) error {
	alone := find("nobody")
	if err := w.start(ctx, alone); err != nil {
		return err
	}
	first, err := w.measure(ctx, alone, o.seconds)
	if err != nil {
		return err
	}
	second, err := w.measure(ctx, alone, o.seconds)
	if err != nil {
		return err
	}
	row(os.Stdout, "nobody, at the end", w.program.name, 0, first, second)
	return w.stop()
}

// buildUp is how long an abuse goes on before anything is measured.
const buildUp = time.Second

// beside measures while n abusers do what they do.
func (w *world) beside(ctx context.Context, s *scenario, n int, seconds float64) (result, error) {
	a, err := w.abusers(ctx, s, n)
	if err != nil {
		return result{}, err
	}
	if err := w.warmUp(ctx, s); err != nil {
		return result{}, errors.Join(err, a.kill())
	}
	a.begin()
	sleep(ctx, buildUp)
	r, err := w.measure(ctx, s, seconds)
	told, ended := a.end()
	r.told = told
	return r, errors.Join(err, ended)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
