// SPDX-License-Identifier: Apache-2.0

package workingset

import (
	"context"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
)

// Window is how many chunks are fetched ahead at a time. Enough to keep a
// store with latency busy; few enough that the first chunks, which the start
// waits for, come first.
const Window = 16

// Chunks finds the chunk that holds a block: its index and name in the manifest
// (the zero name is a chunk of zeros) and the block behind its last.
type Chunks interface {
	ChunkAt(ctx context.Context, block uint32) (index int, name thaw.ChunkName, end uint32, err error)
}

// Warmer brings a chunk nearer without being in the way of those who wait for
// one.
type Warmer interface {
	Warm(ctx context.Context, name thaw.ChunkName) error
}

// Each calls do for each chunk that holds a block of the set, once, in the
// set's order. It ends with the first error of chunks.
func (s Set) Each(ctx context.Context, chunks Chunks, do func(index int, name thaw.ChunkName)) error {
	return each(ctx, s.Runs, chunks, do)
}

func each(ctx context.Context, runs []Run, chunks Chunks, do func(index int, name thaw.ChunkName)) error {
	done := map[int]bool{}
	for _, r := range runs {
		for b := r.Block; b < r.Block+r.Blocks; {
			index, name, end, err := chunks.ChunkAt(ctx, b)
			if err != nil {
				return err
			}
			if !done[index] {
				done[index] = true
				do(index, name)
			}
			b = end
		}
	}
	return nil
}

// Fetch has the set fetched ahead, in order, [Window] chunks at a time, until all
// is or ctx ends: those of its pack, from pack, and then the image's that hold
// what is not in it, from warm. A chunk that fails is left to the read that will
// need it.
func (s Set) Fetch(ctx context.Context, chunks Chunks, warm, pack Warmer) error {
	var group errgroup.Group
	group.SetLimit(Window)
	fetch := func(from Warmer, name thaw.ChunkName) {
		if name.IsZero() || ctx.Err() != nil {
			return
		}
		group.Go(func() error {
			_ = from.Warm(ctx, name)
			return nil
		})
	}
	for _, c := range s.Pack {
		fetch(pack, c.Name)
	}
	err := each(ctx, s.beyondPack(), chunks, func(_ int, name thaw.ChunkName) { fetch(warm, name) })
	_ = group.Wait()
	return err
}
