// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
)

// opened are the chunks that were opened before. The zero value is ready.
type opened struct {
	mu   sync.Mutex
	bits []uint64
}

// mark notes that a chunk is opened, and reports whether it was before.
func (o *opened) mark(index int) (again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.bits) <= index/64 {
		o.bits = append(o.bits, 0)
	}
	word, bit := &o.bits[index/64], uint64(1)<<(index%64)
	again = *word&bit != 0
	*word |= bit
	return again
}

// opener is what opens a chunk.
type opener func(context.Context, manifest.Chunk) (thaw.PlainChunk, error)

// counted is open for the chunk of an index, and tells [Options.Again] where that
// was opened before.
func (v *View) counted(o *opened, index int, open opener) opener {
	return func(ctx context.Context, c manifest.Chunk) (thaw.PlainChunk, error) {
		if !o.mark(index) || v.options.Again == nil {
			return open(ctx, c)
		}
		begin := time.Now()
		defer func() { v.options.Again(v.tenant, time.Since(begin)) }()
		return open(ctx, c)
	}
}
