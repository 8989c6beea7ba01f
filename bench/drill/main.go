// SPDX-License-Identifier: Apache-2.0

// Command drill measures how a worker comes back after everything cached was
// lost: L1's memory and disk, the kernel's caches, and the zone's memcached
// servers, with the full load on from the first moment.
//
// The load is open: invocations are due at a constant rate whether or not earlier
// ones were answered, and an answer's time counts from when its invocation was
// due. Sandboxes are stopped soon after their answer, and the kernel's caches of
// idle images are dropped twice a second, before the drill as after it:
// so nearly every invocation is a cold start, and starts read from the tiers.
//
// The hit rate is that of L1 and L2 together: of the chunks asked for, those that
// the origin did not serve. It is back at the end of the last window of one second
// in which it was more than a hundredth below what it was before.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/internal/memcachedtest"
	"thaw.dev/thaw/internal/s3test"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l1"
	"thaw.dev/thaw/read/tier/l2"
)

// idle is how long the server keeps an idle sandbox.
const idle = 200 * time.Millisecond

// config is the flags.
type config struct {
	functions, servers int
	rate               float64
	before, after      time.Duration
	kernel             time.Duration
	origin, layouts    string
}

func main() {
	log.SetFlags(0)
	var c config
	flag.IntVar(&c.functions, "functions", 20, "functions, over the ten images of the mix")
	flag.IntVar(&c.servers, "servers", 6, "memcached servers")
	flag.Float64Var(&c.rate, "rate", 4, "invocations a second")
	flag.DurationVar(&c.before, "before", 20*time.Second, "of load before the drill")
	flag.DurationVar(&c.after, "after", 30*time.Second, "of load from the drill on")
	flag.DurationVar(&c.kernel, "kernel", 500*time.Millisecond, "how often the kernel's caches of idle images are dropped")
	flag.StringVar(&c.origin, "origin", "s3", "s3, a bucket of a server on the loopback; or dir, a folder")
	flag.StringVar(&c.layouts, "layouts", "", "folder that keeps the images built for the next run; else they are built anew and removed")
	flag.Parse()
	if err := run(context.Background(), c); err != nil {
		log.Fatal("bench/drill: ", err)
	}
}

func run(ctx context.Context, c config) error {
	servers, err := memcachedtest.StartAll(ctx, c.servers, "-m", "256")
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range servers {
			s.Kill()
		}
	}()
	flags := []string{"--idle", idle.String(), "--l2", strings.Join(memcachedtest.Addresses(servers), ",")}
	switch c.origin {
	case "dir":
	case "s3":
		location, stop, err := bucket(ctx)
		if err != nil {
			return err
		}
		defer stop()
		flags = append(flags, "--origin", location)
	default:
		return fmt.Errorf("-origin is s3 or dir, not %q", c.origin)
	}
	b, err := measure.Open(ctx, flags...)
	if err != nil {
		return err
	}
	defer b.Close()
	if c.layouts == "" {
		c.layouts = b.Dir
	}
	layout, err := measure.BuildImages(ctx, c.layouts, "gzip", measure.Mix...)
	if err != nil {
		return err
	}
	names, err := b.CreateMix(ctx, layout, c.functions)
	if err != nil {
		return err
	}
	return drill(ctx, b, c, names)
}

// bucket starts an object store with a bucket for the origin, and gives this
// process and its children its credentials.
func bucket(ctx context.Context) (location string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "thaw-drill-")
	if err != nil {
		return "", nil, err
	}
	const name = "origin"
	err = os.Mkdir(filepath.Join(dir, name), 0o755)
	for variable, value := range s3test.Environ() {
		err = errors.Join(err, os.Setenv(variable, value))
	}
	var server *s3test.Server
	if err == nil {
		server, err = s3test.Run(ctx, dir)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", nil, err
	}
	stop = func() {
		server.Stop()
		_ = os.RemoveAll(dir)
	}
	return s3test.URL(server.Endpoint, name, "drill"), stop, nil
}

func drill(ctx context.Context, b *measure.Bench, c config, names []string) error {
	for _, name := range names { // records what starts read, fills the tiers
		if _, err := b.Invoke(ctx, name); err != nil {
			return err
		}
	}
	if _, err := settled(ctx, b); err != nil {
		return err
	}
	before, err := observe(ctx, b, c, names, c.before)
	if err != nil {
		return err
	}
	if err := empty(ctx, b); err != nil {
		return err
	}
	zero, err := b.Tiers(ctx)
	if err != nil {
		return err
	}
	after, err := observe(ctx, b, c, names, c.after)
	if err != nil {
		return err
	}
	end, err := settled(ctx, b)
	if err != nil {
		return err
	}
	single := singleFlight{
		fetched: end[tier.OriginName].Requests - zero[tier.OriginName].Requests,
		chunks:  end[l1.DiskName].StoredChunks,
		made:    end[l1.DiskName].MadeChunks - zero[l1.DiskName].MadeChunks,
		zone:    end[l2.Name].Hits - zero[l2.Name].Hits,
	}
	return report(c, before, after, single)
}

// settled waits until nothing is packed or written to L1's disk any more, and
// returns what the tiers tell then.
func settled(ctx context.Context, b *measure.Bench) (map[string]measure.Tier, error) {
	const pause = 2 * time.Second
	last, err := b.Tiers(ctx)
	for err == nil {
		time.Sleep(pause)
		var now map[string]measure.Tier
		if now, err = b.Tiers(ctx); err == nil && now[l1.DiskName] == last[l1.DiskName] {
			return now, nil
		}
		last = now
	}
	return nil, err
}

// empty drops every tier, the kernel's caches of what the origin reads included.
func empty(ctx context.Context, b *measure.Bench) error {
	if _, err := b.Thaw(ctx, "cache", "drop", "l2"); err != nil {
		return err
	}
	if err := b.Empty(ctx, "l1"); err != nil {
		return err
	}
	return measure.DropPageCache()
}
