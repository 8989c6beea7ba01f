// SPDX-License-Identifier: Apache-2.0

// Command l2 measures a chunk read from the zone cache, on memcached servers on
// loopback, beside a plain get of the same bytes as one value, and with one of
// the servers paused or stalling beside the same client without a parity stripe.
// Reads are interleaved, so that both meet the same machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"thaw.dev/thaw"
	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/format/stripe"
	"thaw.dev/thaw/internal/memcachedtest"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l2"
)

const (
	serverCount = 6
	chunkCount  = 100
)

func main() {
	reads := flag.Int("n", 5000, "reads of each kind")
	bytes := flag.Int("bytes", thaw.MaxChunkBytes, "length of a chunk")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *reads, *bytes); err != nil {
		fmt.Fprintln(os.Stderr, "bench/l2:", err)
		os.Exit(1)
	}
}

// bench is the servers, and two caches on them: striped as it is, and without a
// parity stripe.
type bench struct {
	servers        []*memcachedtest.Server
	chunks, others map[thaw.ChunkName]thaw.SealedChunk // of the two
	parity, plain  *l2.L2
	peer           *memcache.Client
	singles        []*memcache.Client // one for each stripe, each of a server of its own
}

func run(ctx context.Context, reads, bytes int) error {
	servers, err := memcachedtest.StartAll(ctx, serverCount)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range servers {
			s.Kill()
		}
	}()
	b := &bench{servers: servers, chunks: chunks(1, bytes), others: chunks(2, bytes)}
	b.peer = memcache.New(memcachedtest.Addresses(servers)...)
	b.peer.Timeout = 10 * time.Second
	if b.parity, err = b.open(ctx, l2.Striped, b.chunks); err != nil {
		return err
	}
	defer b.parity.Close()
	if b.plain, err = b.open(ctx, stripe.Layout{Data: l2.Striped.Data}, b.others); err != nil {
		return err
	}
	defer b.plain.Close()
	for _, s := range servers[:l2.Striped.Stripes()] {
		b.singles = append(b.singles, memcache.New(memcachedtest.Addresses([]*memcachedtest.Server{s})...))
	}
	for name, sealed := range b.chunks {
		if err := b.peer.Set(&memcache.Item{Key: name.String(), Value: sealed}); err != nil {
			return err
		}
		part := sealed[:len(sealed)/l2.Striped.Data]
		for _, single := range b.singles {
			if err := single.Set(&memcache.Item{Key: "part-" + name.String(), Value: part}); err != nil {
				return err
			}
		}
	}
	p50, err := b.besideGet(ctx, reads)
	if err != nil {
		return err
	}
	if err := b.stalling(ctx, reads, p50); err != nil {
		return err
	}
	return b.paused(ctx, reads, p50)
}

func chunks(seed uint64, n int) map[thaw.ChunkName]thaw.SealedChunk {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	all := map[thaw.ChunkName]thaw.SealedChunk{}
	for range chunkCount {
		sealed := make(thaw.SealedChunk, n)
		_, _ = r.Read(sealed) // never fails
		all[thaw.NameOf(sealed)] = sealed
	}
	return all
}

func (b *bench) open(ctx context.Context, layout stripe.Layout, all map[thaw.ChunkName]thaw.SealedChunk) (*l2.L2, error) {
	cache, err := l2.New(l2.Options{Layout: layout, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if err := cache.SetServers(memcachedtest.Addresses(b.servers)); err != nil {
		return nil, err
	}
	for name, sealed := range all {
		cache.Put(name, sealed)
	}
	for cache.Stats(ctx).Waiting > 0 {
		time.Sleep(time.Millisecond)
	}
	if st := cache.Stats(ctx); st.Stored != chunkCount {
		return nil, fmt.Errorf("%d of %d chunks stored: %+v", st.Stored, chunkCount, st)
	}
	return cache, nil
}

// timed calls f and adds how long it took.
func timed(s *measure.Samples, f func() error) error {
	begin := time.Now()
	err := f()
	*s = append(*s, time.Since(begin))
	return err
}

func get(ctx context.Context, cache thaw.ChunkSource, name thaw.ChunkName) func() error {
	return func() error {
		_, err := cache.Get(ctx, name)
		return err
	}
}

// only is a cache with nothing behind it.
type only struct{ cache *l2.L2 }

func (o only) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	if sealed, ok := o.cache.Get(ctx, name); ok {
		return sealed, nil
	}
	return nil, thaw.Errorf("get", thaw.NotFound, "a miss")
}

// parts gets a quarter of a chunk's bytes from each of five servers at once with
// the peer's client, and waits for four: what asking so costs whoever asks.
func (b *bench) parts(name thaw.ChunkName) error {
	answers := make(chan error, len(b.singles))
	for _, single := range b.singles {
		go func() {
			_, err := single.Get("part-" + name.String())
			answers <- err
		}()
	}
	for range l2.Striped.Data {
		if err := <-answers; err != nil {
			return err
		}
	}
	return nil
}

// besideGet compares with one get, with all servers well.
func (b *bench) besideGet(ctx context.Context, reads int) (p50 time.Duration, err error) {
	names, others := keys(b.chunks), keys(b.others)
	var striped, plain, peer, parts, verified measure.Samples
	for i := range reads + reads/10 {
		if i == reads/10 { // the reads before were to warm up
			striped, plain, peer, parts, verified = nil, nil, nil, nil, nil
		}
		name := names[i%len(names)]
		fetch := func() error {
			item, err := b.peer.Get(name.String())
			if err == nil && len(item.Value) != len(b.chunks[name]) {
				err = fmt.Errorf("the peer has %d bytes", len(item.Value))
			}
			return err
		}
		for _, step := range []error{
			timed(&striped, get(ctx, only{b.parity}, name)),
			timed(&peer, fetch),
			timed(&parts, func() error { return b.parts(name) }),
			timed(&plain, get(ctx, only{b.plain}, others[i%len(others)])),
			timed(&verified, func() error {
				item, err := b.peer.Get(name.String())
				if err == nil && thaw.NameOf(item.Value) != name {
					err = fmt.Errorf("the peer has wrong bytes")
				}
				return err
			}),
		} {
			if step != nil {
				return 0, step
			}
		}
	}
	fmt.Printf("L2, 4 + 1 stripes, verified             %s\n", micros(striped))
	fmt.Printf("L2, 4 stripes without parity, verified  %s\n", micros(plain))
	fmt.Printf("one get of the same bytes               %s\n", micros(peer))
	fmt.Printf("one get, and its SHA-256                %s\n", micros(verified))
	fmt.Printf("five gets of a quarter, four awaited    %s\n", micros(parts))
	measure.Ratio(os.Stdout, "L2 : one get", striped, peer)
	measure.Ratio(os.Stdout, "L2 : one get, and its SHA-256", striped, verified)
	measure.Ratio(os.Stdout, "L2 : five gets of a quarter", striped, parts)
	measure.Ratio(os.Stdout, "L2 : without parity", striped, plain)
	return striped.Quantile(0.5), nil
}

// stalling has one server stand still now and then, for less than a timeout.
func (b *bench) stalling(ctx context.Context, reads int, p50 time.Duration) error {
	stalls, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- stall(stalls, b.servers[0]) }()
	striped, plain, err := b.both(ctx, reads, only{b.parity}, only{b.plain})
	end()
	if stalled := <-done; err == nil {
		err = stalled
	}
	if err != nil {
		return err
	}
	report("one of six stands still for 20 ms of each 100 ms", striped, plain, p50)
	return nil
}

func stall(ctx context.Context, s *memcachedtest.Server) error {
	for ctx.Err() == nil {
		if err := s.Pause(); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
		if err := s.Resume(); err != nil {
			return err
		}
		time.Sleep(80 * time.Millisecond)
	}
	return nil
}

// paused has one server stand still throughout. What is then a miss is read
// from an origin that answers after originDelay.
func (b *bench) paused(ctx context.Context, reads int, p50 time.Duration) error {
	if err := b.servers[0].Pause(); err != nil {
		return err
	}
	defer b.servers[0].Resume()
	stack := func(cache *l2.L2, all map[thaw.ChunkName]thaw.SealedChunk) thaw.ChunkSource {
		return tier.New(tier.Options{Caches: []tier.Level{{Name: "none", Cache: none{}}, {Name: l2.Name, Cache: cache}}, Origin: origin{all}})
	}
	striped, plain, err := b.both(ctx, reads, stack(b.parity, b.chunks), stack(b.plain, b.others))
	if err != nil {
		return err
	}
	report(fmt.Sprintf("one of six is paused, misses from an origin of %v", originDelay), striped, plain, p50)
	return nil
}

func (b *bench) both(ctx context.Context, reads int, parity, plain thaw.ChunkSource) (striped, without measure.Samples, err error) {
	names, others := keys(b.chunks), keys(b.others)
	for i := range reads {
		if err := timed(&striped, get(ctx, parity, names[i%len(names)])); err != nil {
			return nil, nil, err
		}
		if err := timed(&without, get(ctx, plain, others[i%len(others)])); err != nil {
			return nil, nil, err
		}
	}
	return striped, without, nil
}

// originDelay is short for an object store, whose median is above 10 ms.
const originDelay = 10 * time.Millisecond

type origin struct {
	chunks map[thaw.ChunkName]thaw.SealedChunk
}

func (o origin) Get(_ context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	time.Sleep(originDelay)
	return o.chunks[name], nil
}

// none stands for an L1 that has nothing.
type none struct{}

func (none) Get(context.Context, thaw.ChunkName) (thaw.SealedChunk, bool) { return nil, false }
func (none) Put(thaw.ChunkName, thaw.SealedChunk)                         {}
func (none) Warm(thaw.ChunkName) bool                                     { return false }

func report(what string, striped, plain measure.Samples, p50 time.Duration) {
	fmt.Printf("\n%s\n", what)
	fmt.Printf("L2, 4 + 1 stripes                       %s\n", micros(striped))
	fmt.Printf("L2, 4 stripes without parity            %s\n", micros(plain))
	ratio := func(a, b time.Duration) float64 { return float64(a) / float64(b) }
	fmt.Printf("%-44s p99.9 %.2f\n", "with parity : without", ratio(striped.Quantile(0.999), plain.Quantile(0.999)))
	fmt.Printf("%-44s p50 %.2f\n", "with parity : with parity and all well", ratio(striped.Quantile(0.5), p50))
}

func micros(s measure.Samples) string {
	us := func(q float64) int64 { return s.Quantile(q).Microseconds() }
	return fmt.Sprintf("p50 %6d  p95 %6d  p99 %6d  p99.9 %7d us (n=%d)", us(0.5), us(0.95), us(0.99), us(0.999), len(s))
}

func keys(m map[thaw.ChunkName]thaw.SealedChunk) []thaw.ChunkName {
	var all []thaw.ChunkName
	for name := range m {
		all = append(all, name)
	}
	return all
}
