// SPDX-License-Identifier: Apache-2.0

// Package tiertest holds the suite that each cache of the read path must pass.
package tiertest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/tier"
)

// Opened is a cache to test.
type Opened struct {
	Cache tier.Cache

	// Settle waits until what was put can be got; nil where that is so at once.
	Settle func()
}

// Cache runs the suite on what open returns: an empty cache, with room for 4
// MiB at least, which open also closes at the end of the test.
func Cache(t *testing.T, open func(t *testing.T) Opened) {
	t.Run("PutThenGet", func(t *testing.T) { putThenGet(t, settled(open(t))) })
	t.Run("AbsentIsAMiss", func(t *testing.T) { absent(t, settled(open(t))) })
	t.Run("PutAgain", func(t *testing.T) { putAgain(t, settled(open(t))) })
	t.Run("WarmTellsNoMoreThanIsTrue", func(t *testing.T) { warm(t, settled(open(t))) })
	t.Run("EndedContext", func(t *testing.T) { endedContext(t, settled(open(t))) })
	t.Run("Concurrent", func(t *testing.T) { concurrent(t, settled(open(t))) })
}

func settled(o Opened) Opened {
	if o.Settle == nil {
		o.Settle = func() {}
	}
	return o
}

// Chunk returns a chunk of n pseudo-random bytes, the same for the same seed.
func Chunk(seed uint64, n int) (thaw.ChunkName, thaw.SealedChunk) {
	r := rand.New(rand.NewPCG(seed, 0))
	sealed := make(thaw.SealedChunk, n)
	for i := range sealed {
		sealed[i] = byte(r.Uint32())
	}
	return thaw.NameOf(sealed), sealed
}

var lengths = []int{1, 2, 3, 4, 5, 100, 4095, 4096, 4097, 100_003, thaw.MaxChunkBytes, thaw.MaxChunkBytes + 129}

func putThenGet(t *testing.T, o Opened) {
	var names []thaw.ChunkName
	for i, n := range lengths {
		name, sealed := Chunk(uint64(i), n)
		o.Cache.Put(name, sealed)
		names = append(names, name)
	}
	o.Settle()
	for i, name := range names {
		sealed, ok := o.Cache.Get(t.Context(), name)
		if !ok || len(sealed) != lengths[i] || thaw.NameOf(sealed) != name {
			t.Errorf("a chunk of %d bytes: got %d bytes, %v", lengths[i], len(sealed), ok)
		}
	}
}

func absent(t *testing.T, o Opened) {
	name, _ := Chunk(1, 1000)
	if sealed, ok := o.Cache.Get(t.Context(), name); ok || sealed != nil {
		t.Errorf("got %d bytes, %v of what was never put", len(sealed), ok)
	}
	if o.Cache.Warm(name) {
		t.Error("warm: what was never put")
	}
}

func putAgain(t *testing.T, o Opened) {
	name, sealed := Chunk(1, 50_000)
	for range 3 {
		o.Cache.Put(name, sealed)
		o.Settle()
	}
	if got, ok := o.Cache.Get(t.Context(), name); !ok || !bytes.Equal(got, sealed) {
		t.Errorf("got %d bytes, %v", len(got), ok)
	}
}

func warm(t *testing.T, o Opened) {
	for i := range uint64(20) {
		name, sealed := Chunk(i, 10_000)
		if i%2 == 0 {
			o.Cache.Put(name, sealed)
			o.Settle()
		}
		if o.Cache.Warm(name) {
			if _, ok := o.Cache.Get(t.Context(), name); !ok {
				t.Errorf("chunk %d is warm and can't be got", i)
			}
		}
	}
}

// endedContext: a reader that has gone is not served wrong bytes and holds
// nobody up.
func endedContext(t *testing.T, o Opened) {
	name, sealed := Chunk(1, 100_000)
	o.Cache.Put(name, sealed)
	o.Settle()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, ok := o.Cache.Get(ctx, name); ok && !bytes.Equal(got, sealed) {
		t.Error("wrong bytes")
	}
	if got, ok := o.Cache.Get(t.Context(), name); !ok || !bytes.Equal(got, sealed) {
		t.Errorf("the next reader got %d bytes, %v", len(got), ok)
	}
}

// concurrent: whatever many readers and writers do at a time, what is got is
// what was put. It may be less: a cache may decline.
func concurrent(t *testing.T, o Opened) {
	var group sync.WaitGroup
	for w := range uint64(4) {
		group.Go(func() {
			for i := range uint64(100) {
				name, sealed := Chunk(i*7919%40, 20_000)
				if (i+w)%3 == 0 {
					o.Cache.Put(name, sealed)
					continue
				}
				if got, ok := o.Cache.Get(t.Context(), name); ok && !bytes.Equal(got, sealed) {
					t.Error("wrong bytes")
				}
			}
		})
	}
	group.Wait()
	o.Settle()
}
