// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"sync"

	"thaw.dev/thaw"
)

// Adder is a [thaw.ChunkSink] that names chunks itself. It is for a sink in
// another process, which must not believe in names, so that nobody hashes twice.
type Adder interface {
	// Add names a chunk and stores it if it is absent; fresh says that it was. The
	// rest is as for Put. The caller may reuse the bytes afterwards.
	Add(ctx context.Context, sealed thaw.SealedChunk) (name thaw.ChunkName, fresh bool, err error)
}

// NewAdder returns the sink if it is an Adder, else one in front of it, for one
// ingest.
func NewAdder(sink thaw.ChunkSink) Adder {
	if a, ok := sink.(Adder); ok {
		return a
	}
	return &adder{sink: sink, met: make(map[thaw.ChunkName]bool)}
}

// maxMet bounds the chunks that are remembered, so that a sink is asked once for
// each. Beyond it some are asked for again, which costs no more than time.
const maxMet = 1 << 16

type adder struct {
	sink thaw.ChunkSink

	mu  sync.Mutex
	met map[thaw.ChunkName]bool
}

// Add implements [Adder].
func (a *adder) Add(ctx context.Context, sealed thaw.SealedChunk) (thaw.ChunkName, bool, error) {
	named := sealed.Named()
	name := named.Name()
	if !a.meet(name) {
		return name, false, nil
	}
	has, err := a.sink.Has(ctx, name)
	if err == nil && !has {
		err = a.sink.Put(ctx, named)
	}
	return name, err == nil && !has, thaw.OurFault("", err)
}

// meet reports whether a chunk is met for the first time.
func (a *adder) meet(name thaw.ChunkName) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.met[name] {
		return false
	}
	if len(a.met) < maxMet {
		a.met[name] = true
	}
	return true
}
