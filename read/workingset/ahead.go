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

// Names finds a chunk's name by its index in the manifest.
type Names interface {
	Chunk(ctx context.Context, i int) (name thaw.ChunkName, sealedBytes int64, err error)
}

// Warmer brings a chunk nearer without being in the way of those who wait for
// one.
type Warmer interface {
	Warm(ctx context.Context, name thaw.ChunkName) error
}

// Fetch has the chunks of the set fetched ahead, in order, [Window] at a time,
// until all are or ctx ends. A chunk that fails is left to the read that will
// need it.
func (s Set) Fetch(ctx context.Context, names Names, warm Warmer) {
	var group errgroup.Group
	group.SetLimit(Window)
	for _, it := range s.Items {
		if ctx.Err() != nil {
			break
		}
		name, _, err := names.Chunk(ctx, it.Chunk)
		if err != nil || name.IsZero() {
			continue
		}
		group.Go(func() error {
			_ = warm.Warm(ctx, name)
			return nil
		})
	}
	_ = group.Wait()
}
