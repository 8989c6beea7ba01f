// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"sync"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/chunk"
	"thaw.dev/thaw/format/seal"
)

// sealed is where a chunk ended: a zero name means zeros. It is written by a
// worker and may be read once the sealer has stopped.
type sealed struct {
	name  thaw.ChunkName
	key   seal.Key
	bytes uint32
}

// job is one chunk to seal.
type job struct {
	pages  []byte // whole blocks; from buffer, goes back there
	domain uint8
	to     *sealed
}

// sealer packs, seals and stores chunks in parallel.
type sealer struct {
	chunks   Adder
	salts    []seal.Salt
	counters *counters
	cancel   context.CancelCauseFunc

	jobs    chan job
	free    chan []byte // page buffers of MaxChunkBytes: they bound what waits for a worker
	workers sync.WaitGroup

	mu    sync.Mutex
	known map[thaw.ChunkName]bool // chunks met: true if this ingest stored it
	err   error                   // the first
}

// startSealer starts the workers. They go on until [sealer.stop], or until ctx
// ends; a failure of one ends the ingest's context.
func (g *ingest) startSealer(ctx context.Context) {
	o := g.options
	s := &sealer{chunks: NewAdder(o.Sink), counters: g.counters, cancel: g.cancel, known: make(map[thaw.ChunkName]bool)}
	for _, d := range g.domains() {
		s.salts = append(s.salts, seal.DeriveSalt(o.SaltMaster, d, o.Root))
	}
	// One buffer being filled, and for each worker one in work and one ready.
	buffers := 2*o.Workers + 1
	s.jobs, s.free = make(chan job, buffers), make(chan []byte, buffers)
	for range buffers {
		s.free <- nil // made when first needed: small images need few
	}
	for range o.Workers {
		s.workers.Go(func() { s.work(ctx) })
	}
	g.sealer = s
}

// buffer returns a buffer of that many blocks, of any content, for a job. It
// waits while all are in use.
func (s *sealer) buffer(ctx context.Context, blocks uint32) ([]byte, error) {
	p, err := receive(ctx, s.free)
	if err != nil {
		return nil, err
	}
	if p == nil {
		p = make([]byte, thaw.MaxChunkBytes)
	}
	return p[:blocks*thaw.BlockBytes], nil
}

// giveBack returns a buffer that no job was made of.
func (s *sealer) giveBack(p []byte) { s.free <- p[:cap(p)] }

// submit takes over a job and its pages. It never blocks: there are no more
// buffers than jobs has room for.
func (s *sealer) submit(j job) { s.jobs <- j }

// stop waits until all jobs are done and returns the first error of any. No
// job may be submitted after it.
func (s *sealer) stop() error {
	close(s.jobs)
	s.workers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *sealer) work(ctx context.Context) {
	var scratch scratch
	for j := range s.jobs {
		if ctx.Err() == nil {
			if err := s.seal(ctx, j, &scratch); err != nil {
				s.fail(err)
			}
		}
		s.giveBack(j.pages)
	}
}

func (s *sealer) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.cancel(err)
}

// scratch is a worker's memory for the forms of a chunk, used again for the next.
type scratch struct{ packed, sealed []byte }

// seal does one job.
func (s *sealer) seal(ctx context.Context, j job, m *scratch) error {
	if chunk.IsZero(j.pages) {
		s.counters.zero.Add(1)
		return nil
	}
	m.packed = chunk.Pack(m.packed[:0], j.pages)
	var key seal.Key
	m.sealed, key = seal.Unnamed(m.sealed, s.salts[j.domain], m.packed)
	name, fresh, err := s.chunks.Add(ctx, m.sealed)
	if err != nil {
		return err
	}
	bytes := len(m.sealed)
	*j.to = sealed{name: name, key: key, bytes: uint32(bytes)}
	if !s.claim(name, fresh) {
		s.counters.shared.Add(1)
		return nil
	}
	s.counters.fresh.Add(1)
	s.counters.freshBytes.Add(int64(bytes))
	return nil
}

// claim notes that a chunk was met, and reports whether it was stored then, for
// the first time.
func (s *sealer) claim(name thaw.ChunkName, fresh bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := s.known[name]
	s.known[name] = stored || fresh
	return fresh && !stored
}

// stored reports whether this ingest stored the chunk.
func (s *sealer) stored(name thaw.ChunkName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[name]
}
