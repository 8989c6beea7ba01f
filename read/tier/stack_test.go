// SPDX-License-Identifier: Apache-2.0

package tier_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/tier"
)

// origin is a source in memory that takes its time and counts.
type origin struct {
	delay time.Duration

	mu      sync.Mutex
	chunks  map[thaw.ChunkName]thaw.SealedChunk
	gets    map[thaw.ChunkName]int
	running int
	most    int
	fail    func(thaw.ChunkName) error
}

func newOrigin(delay time.Duration, texts ...string) (*origin, []thaw.ChunkName) {
	o := &origin{delay: delay, chunks: map[thaw.ChunkName]thaw.SealedChunk{}, gets: map[thaw.ChunkName]int{}}
	var names []thaw.ChunkName
	for _, text := range texts {
		name := thaw.NameOf(thaw.SealedChunk(text))
		o.chunks[name] = thaw.SealedChunk(text)
		names = append(names, name)
	}
	return o, names
}

func (o *origin) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	o.mu.Lock()
	o.gets[name]++
	o.running++
	o.most = max(o.most, o.running)
	fail := o.fail
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.running--
	}()
	select {
	case <-time.After(o.delay):
	case <-ctx.Done():
		return nil, thaw.Wrap("origin", ctx.Err())
	}
	if fail != nil {
		if err := fail(name); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if sealed, ok := o.chunks[name]; ok {
		return sealed, nil
	}
	return nil, thaw.Errorf("origin", thaw.NotFound, "no chunk")
}

// cache is a plain map as a tier.
type cache struct {
	mu     sync.Mutex
	chunks map[thaw.ChunkName]thaw.SealedChunk
	warms  int
}

func newCache() *cache { return &cache{chunks: map[thaw.ChunkName]thaw.SealedChunk{}} }

func (c *cache) Get(_ context.Context, name thaw.ChunkName) (thaw.SealedChunk, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.chunks[name]
	return s, ok
}

func (c *cache) Put(name thaw.ChunkName, sealed thaw.SealedChunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks[name] = sealed
}

func (c *cache) Warm(name thaw.ChunkName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warms++
	return c.chunks[name] != nil
}

func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.chunks)
}

func TestNearestTierAnswersAndNearerOnesAreFilled(t *testing.T) {
	o, names := newOrigin(0, "one", "two")
	near, far := newCache(), newCache()
	s := tier.New(tier.Options{Caches: []tier.Level{{Name: "near", Cache: near}, {Name: "far", Cache: far}}, Origin: o})
	get := func(name thaw.ChunkName) {
		t.Helper()
		sealed, err := s.Get(t.Context(), name)
		if err != nil || thaw.NameOf(sealed) != name {
			t.Fatalf("got %q, %v", sealed, err)
		}
	}
	get(names[0]) // origin
	get(names[0]) // near
	near.drop()
	get(names[0]) // far, fills near
	get(names[0]) // near
	get(names[1]) // origin
	st := s.Stats()
	for name, want := range map[string][3]int64{"near": {5, 2, 6}, "far": {3, 1, 3}, tier.OriginName: {2, 2, 6}} {
		if got := st.Find(name); [3]int64{got.Requests, got.Hits, got.Bytes} != want || got.Latency.Count != want[1] {
			t.Errorf("%s: %+v, want requests, hits, bytes %v", name, got, want)
		}
	}
}

func TestOneFetchHoweverManyReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, names := newOrigin(time.Second, "one")
		s := tier.New(tier.Options{Caches: []tier.Level{{Name: "near", Cache: newCache()}}, Origin: o})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := s.Get(t.Context(), names[0]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if o.gets[names[0]] != 1 || s.Stats().Shared != 49 {
			t.Errorf("%d fetches, %d shared", o.gets[names[0]], s.Stats().Shared)
		}
	})
}

// A demand read is served at once while more is being fetched ahead than has
// room, and the fetches ahead keep to their bound.
func TestDemandDoesNotWaitBehindFetchesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		texts := strings.Split("a b c d e f g h i j", " ")
		o, names := newOrigin(time.Second, texts...)
		s := tier.New(tier.Options{Caches: []tier.Level{{Name: "near", Cache: newCache()}}, Origin: o, Ahead: 2, Fetches: 1})
		var wg sync.WaitGroup
		for _, name := range names[:9] {
			wg.Go(func() {
				if err := s.Warm(t.Context(), name); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		for _, name := range []thaw.ChunkName{names[9], names[8]} {
			if _, err := s.Get(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		// names[8] may be waiting for a slot ahead: it must not be waited for.
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("two demand reads of one second each took %v", took)
		}
		wg.Wait()
		if o.most > 3 {
			t.Errorf("%d fetches at a time, at most 2 ahead and 1 demand are allowed", o.most)
		}
		for _, name := range names {
			if o.gets[name] != 1 {
				t.Errorf("%d fetches of one chunk", o.gets[name])
			}
		}
	})
}

func TestFetchIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, names := newOrigin(time.Hour, "one")
		s := tier.New(tier.Options{Origin: o, FetchTimeout: time.Second})
		_, err := s.Get(t.Context(), names[0])
		if thaw.KindOf(err) != thaw.Unavailable {
			t.Errorf("got %v", err)
		}
		if st := s.Stats().Find(tier.OriginName); st.Errors != 1 || st.Hits != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestCorruptAtOriginIsAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, names := newOrigin(time.Second, "one")
		o.fail = func(thaw.ChunkName) error { return thaw.Errorf("origin", thaw.Corrupt, "rotten") }
		var log strings.Builder
		s := tier.New(tier.Options{Origin: o, Log: slog.New(slog.NewTextHandler(&log, nil))})
		var wg sync.WaitGroup
		var corrupt atomic.Int32
		for range 8 {
			wg.Go(func() {
				if _, err := s.Get(t.Context(), names[0]); thaw.KindOf(err) == thaw.Corrupt {
					corrupt.Add(1)
				}
			})
		}
		wg.Wait()
		if corrupt.Load() != 8 || o.gets[names[0]] != 1 {
			t.Errorf("%d readers were told, after %d fetches", corrupt.Load(), o.gets[names[0]])
		}
		if s.Stats().CorruptAtOrigin != 1 || !strings.Contains(log.String(), "level=ERROR msg=ALARM") && !strings.Contains(log.String(), `level=ERROR msg="ALARM`) {
			t.Errorf("%d counted; log: %s", s.Stats().CorruptAtOrigin, log.String())
		}
	})
}

// TestAMissingChunkIsLost: a manifest names it, so it is an alarm and the host's
// fault.
func TestAMissingChunkIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, names := newOrigin(time.Second, "one")
		o.fail = func(thaw.ChunkName) error { return thaw.Errorf("origin", thaw.NotFound, "none") }
		s := tier.New(tier.Options{Origin: o, Log: slog.New(slog.DiscardHandler)})
		_, err := s.Get(t.Context(), names[0])
		if st := s.Stats(); thaw.KindOf(err) != thaw.Lost || st.LostAtOrigin != 1 || st.Find(tier.OriginName).Errors != 1 {
			t.Errorf("%v, %+v", err, st)
		}
	})
}

// far is a cache beyond a network: it can't tell what it has.
type far struct{ *cache }

func (far) Warm(thaw.ChunkName) bool { return false }

// What is fetched ahead comes from a far cache if that has it, and is kept
// nearby; the origin is not asked.
func TestFetchAheadAsksFarCaches(t *testing.T) {
	o, names := newOrigin(0, "one", "two")
	near, zone := newCache(), far{newCache()}
	s := tier.New(tier.Options{Origin: o, Caches: []tier.Level{{Name: "near", Cache: near}, {Name: "zone", Cache: zone, Far: true}}})
	zone.Put(names[0], thaw.SealedChunk("one"))
	for range 2 {
		for _, name := range names {
			if err := s.Warm(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	st := s.Stats()
	if o.gets[names[0]] != 0 || o.gets[names[1]] != 1 || st.Ahead != 1 {
		t.Errorf("origin asked %d and %d times, %d counted", o.gets[names[0]], o.gets[names[1]], st.Ahead)
	}
	if z := st.Find("zone"); z.Requests != 2 || z.Hits != 1 {
		t.Errorf("zone: %+v", z)
	}
	for _, name := range names {
		if _, ok := near.Get(t.Context(), name); !ok {
			t.Error("a chunk fetched ahead is not nearby")
		}
	}
}
