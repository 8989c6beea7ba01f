// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/flight"
)

// OriginName is the name of the last tier in [Stats].
const OriginName = "origin"

// Cache is a tier that may hold a chunk. Implementations are safe for
// concurrent use.
type Cache interface {
	// Get returns the chunk if it is there, with bytes that hash to name and
	// that nobody modifies.
	Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, bool)

	// Put offers a chunk, verified and never modified again. The cache may
	// decline. Put does not wait for anything.
	Put(name thaw.ChunkName, sealed thaw.SealedChunk)

	// Warm reports whether the chunk is there. Where it is, the cache does what
	// makes a Get soon after faster, without waiting for it. A cache that can't
	// tell without waiting reports false, see [Level.Far].
	Warm(name thaw.ChunkName) bool
}

// Level is a cache with its name in [Stats].
type Level struct {
	Name  string
	Cache Cache

	// Far marks a cache beyond a network: a fetch ahead gets the chunk from it,
	// as a read does, and the nearer levels keep it.
	Far bool
}

// Options make a [Stack].
type Options struct {
	Caches []Level          // nearest first; may be empty
	Origin thaw.ChunkSource // required

	// Fetches bounds the demand fetches from the origin at a time; zero means
	// 64, which fills a 10 Gbit/s link at 50 ms for chunks of 256 KiB.
	Fetches int
	// Ahead bounds the fetches ahead at a time, beside Fetches; zero means 16.
	Ahead int
	// FetchTimeout bounds one fetch from the origin; zero means 20 s. It should
	// be below the bound of the whole read, which is the mount's.
	FetchTimeout time.Duration
	Log          *slog.Logger // nil means slog.Default
}

// Stack asks caches and then the origin. Use [New]. It implements
// [thaw.ChunkSource] and is safe for concurrent use.
type Stack struct {
	opts    Options
	levels  []level
	flights *flight.Group[thaw.ChunkName, thaw.SealedChunk]
	demand  chan struct{} // a slot a demand fetch
	ahead   chan struct{} // a slot a fetch ahead

	origin                    counters
	shared, aheadFetches      atomic.Int64
	offered                   atomic.Int64
	badAtOrigin, lostAtOrigin atomic.Int64
}

var _ thaw.ChunkSource = (*Stack)(nil)

type level struct {
	Level
	*counters
}

// New returns a stack. It does no I/O.
func New(o Options) *Stack {
	o.Fetches = orDefault(o.Fetches, 64)
	o.Ahead = orDefault(o.Ahead, 16)
	o.FetchTimeout = orDefault(o.FetchTimeout, 20*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Stack{
		opts:    o,
		flights: flight.New[thaw.ChunkName, thaw.SealedChunk](isFinal),
		demand:  make(chan struct{}, o.Fetches),
		ahead:   make(chan struct{}, o.Ahead),
	}
	for _, l := range o.Caches {
		s.levels = append(s.levels, level{l, &counters{}})
	}
	return s
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// isFinal reports that asking the origin again at once would not help.
func isFinal(err error) bool {
	k := thaw.KindOf(err)
	return k == thaw.Corrupt || k == thaw.Lost
}

// Get returns the chunk from the nearest tier that has it. Errors are the
// origin's, [thaw.Lost] where it has no such chunk, and [thaw.Unavailable] or [thaw.Canceled] where ctx or the fetch's
// bound ended first.
func (s *Stack) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	return s.get(ctx, name, s.opts.Origin)
}

func (s *Stack) get(ctx context.Context, name thaw.ChunkName, origin thaw.ChunkSource) (thaw.SealedChunk, error) {
	// The first level is asked before the flight as well: it is memory, and
	// most reads end there.
	if len(s.levels) > 0 {
		if sealed, ok := s.levels[0].get(ctx, name); ok {
			return sealed, nil
		}
	}
	begin := time.Now()
	sealed, shared, err := s.flights.Do(ctx, name, func(ctx context.Context) (thaw.SealedChunk, error) {
		return s.fill(ctx, name, origin)
	})
	if shared && err == nil {
		s.shared.Add(1)
		note(ctx, SharedName, len(sealed), begin)
	}
	return sealed, thaw.Wrap("tier: get "+name.String(), err)
}

func (l level) get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, bool) {
	begin := time.Now()
	l.requests.Add(1)
	sealed, ok := l.Cache.Get(ctx, name)
	if ok {
		l.hit(len(sealed), begin)
		note(ctx, l.Name, len(sealed), begin)
	}
	return sealed, ok
}

func (s *Stack) fill(ctx context.Context, name thaw.ChunkName, origin thaw.ChunkSource) (thaw.SealedChunk, error) {
	for i, l := range s.levels {
		// Another flight may have filled the first level since Get asked it,
		// which is worth a look but not a second request in the statistics.
		if i == 0 {
			if sealed, ok := l.Cache.Get(ctx, name); ok {
				return sealed, nil
			}
			continue
		}
		if sealed, ok := l.get(ctx, name); ok {
			s.put(s.levels[:i], name, sealed)
			return sealed, nil
		}
	}
	if err := acquire(ctx, s.demand); err != nil {
		return nil, err
	}
	defer func() { <-s.demand }()
	return s.fetch(ctx, name, origin)
}

func (s *Stack) put(levels []level, name thaw.ChunkName, sealed thaw.SealedChunk) {
	for _, l := range levels {
		l.Cache.Put(name, sealed)
	}
}

// acquire takes one of the slots; the caller gives it back by receiving.
func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return thaw.Wrap("wait for room to fetch", context.Cause(ctx))
	}
}

// fetch gets the chunk from the origin. The caller holds a slot.
func (s *Stack) fetch(ctx context.Context, name thaw.ChunkName, origin thaw.ChunkSource) (thaw.SealedChunk, error) {
	begin := time.Now()
	s.origin.requests.Add(1)
	ctx, cancel := context.WithTimeout(ctx, s.opts.FetchTimeout)
	defer cancel()
	sealed, err := origin.Get(ctx, name)
	if err != nil {
		s.failed(ctx, name, err, time.Since(begin))
		return nil, thaw.OurFault("", err) // a manifest names it
	}
	s.origin.hit(len(sealed), begin)
	note(ctx, OriginName, len(sealed), begin)
	s.put(s.levels, name, sealed)
	return sealed, nil
}

func (s *Stack) failed(ctx context.Context, name thaw.ChunkName, err error, took time.Duration) {
	switch thaw.KindOf(err) {
	case thaw.Canceled: // nobody waits any more
	case thaw.Corrupt:
		s.badAtOrigin.Add(1)
		s.origin.errors.Add(1)
		s.opts.Log.ErrorContext(ctx, "ALARM: the origin holds a corrupt chunk", "chunk", name, "err", err)
	case thaw.NotFound, thaw.Lost:
		s.lostAtOrigin.Add(1)
		s.origin.errors.Add(1)
		s.opts.Log.ErrorContext(ctx, "ALARM: the origin lacks a chunk that an image names", "chunk", name, "err", err)
	default:
		s.origin.errors.Add(1)
		s.opts.Log.WarnContext(ctx, "fetch from the origin failed", "chunk", name, "err", err, "took", took)
	}
}

// Warm fetches the chunk ahead of its use: afterwards a nearer tier than the
// origin was offered it. Where one has it already this is nearly free. It waits
// for room among the fetches ahead, never among the demand fetches.
func (s *Stack) Warm(ctx context.Context, name thaw.ChunkName) error {
	return s.warm(ctx, name, s.opts.Origin)
}

func (s *Stack) warm(ctx context.Context, name thaw.ChunkName, origin thaw.ChunkSource) error {
	if s.warmed(name) {
		return nil
	}
	// The slot is taken before the flight: a demand read that joins the flight
	// then waits for a fetch under way, and not for a slot.
	if err := acquire(ctx, s.ahead); err != nil {
		return thaw.Wrap("tier: warm "+name.String(), err)
	}
	defer func() { <-s.ahead }()
	_, _, err := s.flights.Do(ctx, name, func(ctx context.Context) (thaw.SealedChunk, error) {
		if s.warmed(name) { // by a flight since we looked
			return s.fill(ctx, name, origin)
		}
		for i, l := range s.levels {
			if !l.Far {
				continue
			}
			if sealed, ok := l.get(ctx, name); ok {
				s.put(s.levels[:i], name, sealed)
				return sealed, nil
			}
		}
		s.aheadFetches.Add(1)
		return s.fetch(ctx, name, origin)
	})
	return thaw.Wrap("tier: warm "+name.String(), err)
}

func (s *Stack) warmed(name thaw.ChunkName) bool {
	for _, l := range s.levels {
		if l.Cache.Warm(name) {
			return true
		}
	}
	return false
}

// Stats returns the counters so far.
func (s *Stack) Stats() Stats {
	st := Stats{
		Shared: s.shared.Load(), Ahead: s.aheadFetches.Load(), Offered: s.offered.Load(),
		CorruptAtOrigin: s.badAtOrigin.Load(), LostAtOrigin: s.lostAtOrigin.Load(),
	}
	for _, l := range s.levels {
		st.Tiers = append(st.Tiers, l.snapshot(l.Name))
	}
	st.Tiers = append(st.Tiers, s.origin.snapshot(OriginName))
	return st
}
