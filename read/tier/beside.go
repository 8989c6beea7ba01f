// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"context"

	"thaw.dev/thaw"
)

// Beside is a source of chunks that another origin holds than the stack's: what
// they go through is the stack, with its caches, bounds and counters. It
// implements [thaw.ChunkSource] and is safe for concurrent use.
type Beside struct {
	stack  *Stack
	origin thaw.ChunkSource
}

var _ thaw.ChunkSource = (*Beside)(nil)

// Beside returns the source.
func (s *Stack) Beside(origin thaw.ChunkSource) *Beside { return &Beside{s, origin} }

// Get is [Stack.Get].
func (b *Beside) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	return b.stack.get(ctx, name, b.origin)
}

// Warm is [Stack.Warm].
func (b *Beside) Warm(ctx context.Context, name thaw.ChunkName) error {
	return b.stack.warm(ctx, name, b.origin)
}

// Offer offers a chunk that was made here to every cache.
func (s *Stack) Offer(chunk thaw.NamedChunk) {
	s.offered.Add(1)
	s.put(s.levels, chunk.Name(), chunk.Sealed())
}
