// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"sync"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/read/flight"
	"thaw.dev/thaw/read/s3fifo"
)

// DefaultPlainBytes is a good size for a [PlainCache]. The kernel reads file
// data in large pieces and keeps it, but metadata in single blocks: the cache
// has to outlast the reads of one chunk, not to hold images.
const DefaultPlainBytes = 64 << 20

// plainID identifies an opened chunk. The key is part of it, so that nobody
// gets at a chunk by its name alone.
type plainID struct {
	name   thaw.ChunkName
	key    [32]byte
	blocks uint32
}

// PlainCache holds opened chunks, bounded by their bytes, and has each opened
// once however many readers wait for it. It is shared by the views of a worker
// and safe for concurrent use.
type PlainCache struct {
	flights *flight.Group[plainID, thaw.PlainChunk]

	mu    sync.Mutex // guards cache
	cache *s3fifo.Cache[plainID, thaw.PlainChunk]
}

// NewPlainCache returns a cache of so many bytes.
func NewPlainCache(bytes int64) *PlainCache {
	// A chunk that could not be opened is not tried again by its waiters: the
	// source has done what can be done.
	final := func(err error) bool { k := thaw.KindOf(err); return k != thaw.Canceled && k != thaw.Unavailable }
	return &PlainCache{
		flights: flight.New[plainID, thaw.PlainChunk](final),
		cache:   s3fifo.New[plainID, thaw.PlainChunk](bytes, nil),
	}
}

// get returns the opened chunk, which nobody may modify.
func (p *PlainCache) get(ctx context.Context, c manifest.Chunk, open opener) (thaw.PlainChunk, error) {
	id := plainID{name: c.Name, key: c.Key, blocks: c.Blocks}
	if plain, ok := p.look(id); ok {
		return plain, nil
	}
	plain, _, err := p.flights.Do(ctx, id, func(ctx context.Context) (thaw.PlainChunk, error) {
		if plain, ok := p.look(id); ok { // another flight was faster than we
			return plain, nil
		}
		plain, err := open(ctx, c)
		if err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.cache.Add(id, plain, int64(len(plain)))
		}
		return plain, err
	})
	return plain, err
}

func (p *PlainCache) look(id plainID) (thaw.PlainChunk, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cache.Get(id)
}

// Drop empties the cache and returns the bytes it held.
func (p *PlainCache) Drop() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.cache.Cost()
	p.cache.Clear()
	return held
}
