// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/stripe"
	"thaw.dev/thaw/read/tier/l2/memcached"
)

// The states of a join.
type joinState int

const (
	joining  joinState = iota // an answer that may help is outstanding
	joined                    // stripes enough are here
	missing                   // there will not be enough
	confused                  // there are not enough of one kind, but stripes that contradict each other
)

// The states of a stripe in a join.
type stripeState int8

const (
	absent stripeState = iota
	arriving
	here
)

// join puts a chunk together while its stripes come in. Answers are received to
// their place in the chunk; which place that is, the answer's header says.
//
// INVARIANT: the bytes of a stripe belong to the connection that receives it
// while it is arriving, and to the reader of the chunk once it is here. A join
// that is over gives out no more places.
type join struct {
	coder   *stripe.Coder
	layout  stripe.Layout
	wake    chan struct{} // holds a token when front has something new to tell
	fetches []fetch       // by position, fixed before any is sent

	mu         sync.Mutex
	over       bool
	open       int // requests that have not ended
	chunkBytes int // as the first header says; 0 before
	data       []byte
	parity     *[]byte
	stripes    []stripeState // by index
	here       int           // of stripes
	inOrder    int           // data stripes here, from the first without a gap
	lacking    []bool        // by position: that server has nothing of use
	strange    bool          // a header contradicted another
}

func newJoin(c *stripe.Coder) *join {
	n := c.Layout().Stripes()
	return &join{
		coder: c, layout: c.Layout(), wake: make(chan struct{}, 1), fetches: make([]fetch, n),
		stripes: make([]stripeState, n), lacking: make([]bool, n),
	}
}

// fetch is the get of one stripe. It implements memcached.Taker.
type fetch struct {
	join       *join
	server     *server
	position   int
	index      int // of the stripe being received; -1 if none is
	valueBytes int
}

func (j *join) fetchOf(s *server, position int) fetch {
	return fetch{join: j, server: s, position: position, index: -1}
}

// begin is called once, before the gets are sent.
func (j *join) begin(asked int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open = asked
}

// Begin finds the stripe's place.
func (f *fetch) Begin(head []byte, valueBytes int) []byte {
	f.valueBytes = valueBytes
	h, err := stripe.ParseHeader(head, valueBytes)
	if err != nil || h.Layout != f.join.layout {
		f.server.bad.Add(1)
		f.join.lacks(f.position)
		return nil
	}
	var dst []byte
	dst, f.index = f.join.place(h, f.position)
	return dst
}

// End enters the outcome.
func (f *fetch) End(o memcached.Outcome, took time.Duration) {
	f.server.ended(o, f.valueBytes, took)
	if o == memcached.Miss {
		f.join.lacks(f.position)
	}
	f.join.ended(f.index, o == memcached.Hit)
}

func (j *join) lacks(position int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lacking[position] = true
}

// place returns where a stripe is received to and its index; nil and -1 if it is
// not wanted.
func (j *join) place(h stripe.Header, position int) ([]byte, int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := h.StripeBytes(h.ChunkBytes)
	switch {
	case j.over:
		return nil, -1
	case j.chunkBytes == 0:
		j.chunkBytes = h.ChunkBytes
		j.data = make([]byte, n*j.layout.Data)
	case j.chunkBytes != h.ChunkBytes, j.stripes[h.Index] != absent:
		// Of another chunk, or the same one on two servers. If the join makes
		// the chunk without it, it was wrong.
		j.strange = true
		j.lacking[position] = true
		return nil, -1
	}
	j.stripes[h.Index] = arriving
	if h.Index < j.layout.Data {
		return j.data[h.Index*n : (h.Index+1)*n], h.Index
	}
	j.parity = parities.Get().(*[]byte)
	return (*j.parity)[:n], h.Index
}

// parities are the buffers of parity stripes, which most reads ask for and do
// not use.
var parities = sync.Pool{New: func() any { b := make([]byte, stripe.MaxChunkBytes); return &b }}

// ended enters that a get has ended and, if it is one that was given a place,
// whether the stripe is whole.
func (j *join) ended(index int, whole bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open--
	before := j.inOrder
	if index >= 0 {
		j.stripes[index] = absent
		if whole {
			j.stripes[index] = here
			j.here++
		}
		for j.inOrder < j.layout.Data && j.stripes[j.inOrder] == here {
			j.inOrder++
		}
	}
	if j.over {
		j.releaseParityLocked()
		return
	}
	if j.inOrder > before || j.stateLocked() != joining {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
}

func (j *join) stateLocked() joinState {
	switch {
	case j.here >= j.layout.Data:
		return joined
	case j.here+j.open >= j.layout.Data:
		return joining
	case j.strange:
		return confused
	}
	return missing
}

// front returns the bytes of the chunk that are here from its begin without a
// gap, which nobody writes to any more, and the state.
func (j *join) front() ([]byte, joinState) {
	j.mu.Lock()
	defer j.mu.Unlock()
	state := j.stateLocked()
	if state == missing || state == confused {
		j.overLocked()
	}
	n := j.layout.StripeBytes(j.chunkBytes)
	return j.data[:min(j.inOrder*n, j.chunkBytes)], state
}

// finish returns the chunk, not verified, and ends the join. The state is
// joined.
func (j *join) finish() (thaw.SealedChunk, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.overLocked()
	if j.inOrder < j.layout.Data {
		if err := j.restoreLocked(); err != nil {
			return nil, err
		}
	}
	return j.data[:j.chunkBytes:j.chunkBytes], nil
}

// restoreLocked makes the one data stripe that is not here.
func (j *join) restoreLocked() error {
	missing := j.inOrder // of the data stripes only one is not here
	n := j.layout.StripeBytes(j.chunkBytes)
	if j.stripes[missing] == arriving {
		// Its place belongs to a connection until that answer has ended, and
		// that is not waited for: the chunk moves.
		moved := make([]byte, len(j.data))
		copy(moved, j.data[:missing*n])
		copy(moved[(missing+1)*n:], j.data[(missing+1)*n:])
		j.data = moved
	}
	return j.coder.Restore(j.data, missing, (*j.parity)[:n])
}

// abandon ends the join: nobody waits for it any more.
func (j *join) abandon() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.overLocked()
}

func (j *join) overLocked() {
	j.over = true
	j.releaseParityLocked()
}

// releaseParityLocked gives the parity's buffer back, unless a connection is
// writing to it.
func (j *join) releaseParityLocked() {
	if j.parity != nil && j.stripes[j.layout.Data] != arriving {
		parities.Put(j.parity)
		j.parity = nil
	}
}

// lack returns, of a join that was finished, the position that lacks a stripe
// and the index of the stripe that no server has; ok if that is how it is.
func (j *join) lack() (position, index int, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	position, index = -1, -1
	for p, lacking := range j.lacking {
		if lacking {
			position = p
		}
	}
	for i, state := range j.stripes {
		if state == absent {
			index = i
		}
	}
	return position, index, position >= 0 && index >= 0
}
