// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/stripe"
)

// fill is a chunk of which stripes are to be stored.
type fill struct {
	name   thaw.ChunkName
	sealed thaw.SealedChunk
	coder  *stripe.Coder
	places []placed
}

// placed is a stripe and the server that is to have it.
type placed struct {
	server *server
	index  int
}

// queue holds the fills that wait, bounded by the bytes of their chunks: those
// of a cold start at full speed, not more, as a cache that can't keep up must
// not take the memory of those that read.
type queue struct {
	dropped, stored, repaired, failed atomic.Int64 // chunks

	mu     sync.Mutex
	more   sync.Cond // on mu: there is a fill, or closed
	fills  []fill
	bytes  int64 // of fills and of those being stored
	max    int64
	closed bool
}

func (q *queue) init(max int64) {
	q.max = max
	q.more.L = &q.mu
}

// add queues a fill, or drops it where there is no room.
func (q *queue) add(f fill) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.bytes+int64(len(f.sealed)) > q.max {
		q.dropped.Add(1)
		return
	}
	q.fills = append(q.fills, f)
	q.bytes += int64(len(f.sealed))
	q.more.Signal()
}

// next waits for a fill; not ok when the queue was closed.
func (q *queue) next() (f fill, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.fills) == 0 && !q.closed {
		q.more.Wait()
	}
	if q.closed {
		return fill{}, false
	}
	f = q.fills[0]
	q.fills[0] = fill{}
	q.fills = q.fills[1:]
	return f, true
}

// done gives back the room of a fill that next returned.
func (q *queue) done(f fill) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= int64(len(f.sealed))
}

func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.fills {
		q.bytes -= int64(len(f.sealed))
	}
	q.fills = nil
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}

func (q *queue) waiting() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// Put queues a verified chunk to be stored on its servers.
func (l *L2) Put(name thaw.ChunkName, sealed thaw.SealedChunk) {
	f := l.fleet.Load()
	job := fill{name: name, sealed: sealed, coder: f.coder}
	for i, place := range f.table.Place(name) {
		job.places = append(job.places, placed{f.servers[place], i})
	}
	if len(job.places) > 0 {
		l.queue.add(job)
	}
}

// repair queues the one stripe that a server was found to lack.
func (l *L2) repair(f *fleet, name thaw.ChunkName, sealed thaw.SealedChunk, j *join) {
	if position, index, ok := j.lack(); ok {
		s := f.servers[f.table.Place(name)[position]]
		l.queue.add(fill{name: name, sealed: sealed, coder: f.coder, places: []placed{{s, index}}})
	}
}

// write stores what is queued until the queue is closed.
func (l *L2) write() {
	for {
		f, ok := l.queue.next()
		if !ok {
			return
		}
		l.store(f)
		l.queue.done(f)
	}
}

func (l *L2) store(f fill) {
	stripes, err := f.coder.Split(f.sealed)
	if err != nil {
		l.queue.failed.Add(1)
		l.complain("L2: can't cut a chunk", "chunk", f.name, "err", err)
		return
	}
	key := keyOf(f.name)
	var failed error
	for _, p := range f.places {
		header := stripe.Header{Layout: f.coder.Layout(), Index: p.index, ChunkBytes: len(f.sealed)}
		// Each set is bounded by the connection's timeout.
		if err := p.server.set(context.Background(), key, header.Append(nil), stripes[p.index]); err != nil {
			failed = err
		}
	}
	switch {
	case failed != nil:
		l.queue.failed.Add(1)
		if thaw.KindOf(failed) != thaw.Unavailable { // the breaker tells of those
			l.complain("L2: a server does not take a stripe", "err", failed)
		}
	case len(f.places) < f.coder.Layout().Stripes():
		l.queue.repaired.Add(1)
	default:
		l.queue.stored.Add(1)
	}
}

// complainEvery is the least time between two log lines on what one server can
// cause many of.
const complainEvery = 10 * time.Second

func (l *L2) complain(message string, args ...any) {
	now := time.Now().UnixNano()
	last := l.complained.Load()
	if now-last >= int64(complainEvery) && l.complained.CompareAndSwap(last, now) {
		l.opts.Log.Warn(message, args...)
	}
}

// sameStripe reports whether an answer is the stripe of that index.
func sameStripe(a answer, index int, payload []byte) bool {
	return a.header.Index == index && bytes.Equal(a.payload, payload)
}
