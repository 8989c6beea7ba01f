// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/tier/l2/memcached"
)

// keyOf is the key of a chunk's stripes, the same on each server.
func keyOf(name thaw.ChunkName) string {
	const prefix = "thaw1:"
	key := make([]byte, len(prefix), len(prefix)+43)
	copy(key, prefix)
	return string(base64.RawURLEncoding.AppendEncode(key, name[:]))
}

// Get returns the chunk if enough servers that are well have its stripes. It
// takes no longer than the slowest of the answers it needs, and in no case longer
// than the timeout of one answer, twice where a connection has to be made.
func (l *L2) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, bool) {
	f := l.fleet.Load()
	key := keyOf(name)
	j := newJoin(f.coder)
	if !f.ask(f.table.Place(name), key, j) {
		return nil, false
	}
	sum := sha256.New()
	hashed := 0 // bytes of j's data that went into sum
	for {
		select {
		case <-j.wake:
		case <-ctx.Done():
			j.abandon()
			return nil, false
		}
		// What has come in order is hashed while the rest is coming: hashing
		// takes as long as the whole transfer.
		front, state := j.front()
		sum.Write(front[hashed:])
		hashed = len(front)
		switch state {
		case joining:
			continue
		case missing:
			return nil, false
		case confused:
			return l.salvage(ctx, f, name, key)
		case joined:
		}
		sealed, err := j.finish()
		if err != nil { // of lengths that the join has checked: a bug
			l.opts.Log.ErrorContext(ctx, "L2: can't join stripes", "chunk", name, "err", err)
			return nil, false
		}
		sum.Write(sealed[hashed:])
		if thaw.ChunkName(sum.Sum(nil)) != name {
			return l.salvage(ctx, f, name, key)
		}
		l.repair(f, name, sealed, j)
		return sealed, true
	}
}

// ask sends the gets of a join. Where so few servers are well that there can't
// be a hit it sends none and returns false.
func (f *fleet) ask(places []uint16, key string, j *join) bool {
	now := time.Now()
	asked := make([]*fetch, 0, len(places))
	for pos, place := range places {
		if s := f.servers[place]; s.breaker.allow(now) {
			fetch := &j.fetches[pos]
			*fetch = j.fetchOf(s, pos)
			asked = append(asked, fetch)
		}
	}
	if len(asked) < f.coder.Layout().Data {
		for _, fetch := range asked {
			fetch.server.breaker.cancel()
		}
		return false
	}
	j.begin(len(asked))
	for _, fetch := range asked {
		fetch.server.get(key, fetch)
	}
	return true
}

// ended tells the server's books how a get ended.
func (s *server) ended(o memcached.Outcome, valueBytes int, took time.Duration) {
	switch o {
	case memcached.Hit:
		s.hits.Add(1)
		s.bytes.Add(int64(valueBytes))
		s.latency.Observe(took)
	case memcached.Miss:
		s.latency.Observe(took)
	case memcached.Failed:
		s.errors.Add(1)
	}
	s.report(o != memcached.Failed, took)
}
