// SPDX-License-Identifier: Apache-2.0

// Package l2 is the cache of a zone: sealed chunks on a fleet of memcached
// servers, shared by all workers. It knows stripes, where they are and which
// server is well; it sees sealed bytes only.
//
// A chunk is four data stripes and one of parity on five servers (docs/format/
// stripe.md, package ring). A read asks all five at once and is done with any
// four: what a server does that is slow, dead or being replaced changes nothing
// for the reader, neither the answer nor the work. There are no retries.
//
// The servers are not trusted: four stripes are a chunk if they hash to its
// name. If they do not, a second look finds the stripe that is wrong, and it is
// replaced (see salvage.go). What the cache lacks is filled behind, by the reader
// that got it from the origin, from a bounded queue; a stripe that one server
// lacks is replaced by whoever notices (see fill.go). So a server that comes back
// empty, or joins, is filled by reads that were hits all the same.
//
// With fewer than five servers, chunks are whole on one of them.
package l2

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/stripe"
	"thaw.dev/thaw/read/tier/ring"
)

// Name of the tier in the statistics.
const Name = "l2"

// Striped and Whole are the layouts with five servers or more, and with fewer.
var (
	Striped = stripe.Layout{Data: 4, Parity: 1}
	Whole   = stripe.Layout{Data: 1, Parity: 0}
)

// maxValueBytes is the longest value that is read to its end, and found to be no
// stripe; one that is longer ends its connection. No server takes such values
// unless it was told to.
const maxValueBytes = 16 << 20

// Options make an [L2].
type Options struct {
	// Layout is what chunks are cut into where there are servers enough for it;
	// zero means Striped. All workers of a zone have to have the same.
	Layout stripe.Layout

	// Connections for gets, to each server; zero means 2. More let answers pass
	// each other, at the price of a wake-up for each.
	Connections int
	// MaxInFlight bounds the requests under way on a connection; those beyond it
	// count as failed. Zero means 256.
	MaxInFlight int
	// Timeout is how long a server may take to answer; what takes longer counts
	// as failed. Zero means 100 ms: the origin takes no longer than that.
	Timeout time.Duration
	// SlowAfter is the mean answer time beyond which a server that is also
	// slower than the others is not asked; zero means 20 ms.
	SlowAfter time.Duration

	QueueBytes int64 // bound of the chunks that wait to be stored; zero means 64 MiB
	Writers    int   // that store them, at a time; zero means 4

	Log *slog.Logger // nil means slog.Default
}

func (o *Options) setDefaults() {
	if o.Layout == (stripe.Layout{}) {
		o.Layout = Striped
	}
	orDefault(&o.Connections, 2)
	orDefault(&o.MaxInFlight, 256)
	orDefault(&o.Timeout, 100*time.Millisecond)
	orDefault(&o.SlowAfter, 20*time.Millisecond)
	orDefault(&o.QueueBytes, 64<<20)
	orDefault(&o.Writers, 4)
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

func orDefault[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

// L2 is the cache. Use [New]. It implements tier.Cache and is safe for
// concurrent use.
type L2 struct {
	opts  Options
	fleet atomic.Pointer[fleet]
	queue queue
	stop  chan struct{}
	group sync.WaitGroup // the writers, and the end of servers that left

	salvages, unverified atomic.Int64
	complained           atomic.Int64 // when a log line was last written by complain

	changing sync.Mutex // held while the fleet is replaced
}

// fleet is the servers at one time. It is immutable.
type fleet struct {
	table   *ring.Table
	servers []*server // in the order of the table
	coder   *stripe.Coder
}

// New returns a cache without servers, see [L2.SetServers]. A layout that is out
// of bounds is [thaw.Invalid]. The caller closes it.
func New(o Options) (*L2, error) {
	o.setDefaults()
	if _, err := stripe.NewCoder(o.Layout); err != nil {
		return nil, err
	}
	l := &L2{opts: o, stop: make(chan struct{})}
	l.queue.init(o.QueueBytes)
	if err := l.SetServers(nil); err != nil {
		return nil, err
	}
	for range o.Writers {
		l.group.Go(l.write)
	}
	return l, nil
}

// SetServers replaces the servers, given as host:port in any order. Those that
// stay keep their connections, their health and their counters.
func (l *L2) SetServers(addresses []string) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	layout := l.opts.Layout
	distinct := len(slices.Compact(slices.Sorted(slices.Values(addresses))))
	if distinct < layout.Stripes() {
		layout = Whole
	}
	coder, err := stripe.NewCoder(layout)
	if err != nil {
		return err
	}
	next := &fleet{table: ring.New(addresses, layout.Stripes()), coder: coder}
	old := l.fleet.Load()
	for _, address := range next.table.Servers() {
		next.servers = append(next.servers, l.serverFor(old, address))
	}
	l.fleet.Store(next)
	if old != nil {
		l.retire(old, next)
	}
	return nil
}

func (l *L2) serverFor(old *fleet, address string) *server {
	if old != nil {
		if i, ok := slices.BinarySearch(old.table.Servers(), address); ok {
			return old.servers[i]
		}
	}
	return newServer(address, &l.opts, func() time.Duration { return l.medianBeside(address) })
}

// retire ends the servers that left, when reads that have asked them have ended.
func (l *L2) retire(old, next *fleet) {
	for _, s := range old.servers {
		if slices.Contains(next.servers, s) {
			continue
		}
		l.group.Go(func() {
			select {
			case <-time.After(l.opts.Timeout):
			case <-l.stop:
			}
			s.close()
		})
	}
}

// slowShare is the part of the servers, one in slowShare, that may be given up
// for being slow: a chunk bears the loss of one in five. On a worker without
// time for its answers all servers look slow now and then.
const slowShare = 5

// medianBeside is the median of the mean answer times of all servers but one;
// endless where there is none to compare with, or where so many are given up
// already that a slow server is better than none.
func (l *L2) medianBeside(address string) time.Duration {
	const endless = math.MaxInt64 / slowFactor
	servers := l.fleet.Load().servers
	var means []time.Duration
	down := 0
	for _, s := range servers {
		if s.address == address {
			continue
		}
		switch state, mean := s.breaker.current(); {
		case state != Closed:
			down++
		case mean > 0:
			means = append(means, mean)
		}
	}
	if len(means) == 0 || (down+1)*slowShare > len(servers) {
		return endless
	}
	slices.Sort(means)
	return means[len(means)/2]
}

// Warm reports false: what the zone has can't be told without asking it.
func (l *L2) Warm(thaw.ChunkName) bool { return false }

// Drop makes all servers forget all that they hold, whoever stored it. What was
// being stored may be stored afterwards. It goes on after a failure.
func (l *L2) Drop(ctx context.Context) error {
	l.queue.clear()
	servers := l.fleet.Load().servers
	failed := make([]error, len(servers))
	var group sync.WaitGroup
	for i, s := range servers {
		group.Go(func() { failed[i] = s.filling().FlushAll(ctx) })
	}
	group.Wait()
	return thaw.Wrap("l2: drop", errors.Join(failed...))
}

// Close ends the connections and the storing behind, and drops what was not
// stored yet. Reads under way end without a hit.
func (l *L2) Close() error {
	close(l.stop)
	l.queue.close()
	l.changing.Lock()
	defer l.changing.Unlock()
	for _, s := range l.fleet.Load().servers {
		s.close()
	}
	l.group.Wait()
	return nil
}
