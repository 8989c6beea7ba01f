// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/latency"
	"thaw.dev/thaw/read/tier/l2/memcached"
)

// server is one memcached server: its connections, its health, its counters.
type server struct {
	address string
	opts    *Options
	breaker breaker

	requests, hits, bytes, errors, bad, stored atomic.Int64
	latency                                    latency.Histogram // of all answers to gets

	mu     sync.Mutex
	closed bool
	reads  []*memcached.Conn // nil where none is needed yet
	fills  *memcached.Conn   // apart, so that no get waits behind a value that is stored
}

func newServer(address string, o *Options, others func() time.Duration) *server {
	return &server{
		address: address, opts: o, reads: make([]*memcached.Conn, o.Connections),
		breaker: breaker{state: Closed, slowAfter: o.SlowAfter, others: others},
	}
}

// fillPatience is how many times longer than for a get a server may take for a
// value that is stored: nobody waits for it.
const fillPatience = 10

// get asks for a value. The breaker has allowed it, and is told by [fetch.End].
func (s *server) get(key string, t memcached.Taker) {
	s.requests.Add(1)
	s.reading().Get(key, t)
}

// reading returns the connection with the fewest requests under way.
func (s *server) reading() *memcached.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	best, least := 0, 0
	for i := range s.reads {
		n := 0
		if s.reads[i] != nil && s.reads[i].Err() == nil {
			n = s.reads[i].InFlight()
			if n == 0 { // idle and there: no need to make another
				best = i
				break
			}
		}
		if i == 0 || n < least {
			best, least = i, n
		}
	}
	s.reads[best] = s.renewLocked(s.reads[best], s.opts.Timeout)
	return s.reads[best]
}

// renewLocked returns c, or a new connection where there is none that lives.
func (s *server) renewLocked(c *memcached.Conn, timeout time.Duration) *memcached.Conn {
	if c != nil && c.Err() == nil {
		return c
	}
	c = memcached.Open(memcached.Options{
		Address: s.address, Timeout: timeout, MaxInFlight: s.opts.MaxInFlight, MaxValueBytes: maxValueBytes,
	})
	if s.closed {
		c.Close()
	}
	return c
}

func (s *server) filling() *memcached.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fills = s.renewLocked(s.fills, fillPatience*s.opts.Timeout)
	return s.fills
}

// set stores a value, unless the breaker is against it.
func (s *server) set(ctx context.Context, key string, header, stripe []byte) error {
	begin := time.Now()
	if !s.breaker.allow(begin) {
		return thaw.Errorf("l2: store", thaw.Unavailable, "%s does not answer", s.address)
	}
	err := s.filling().Set(ctx, key, header, stripe)
	// That a server refuses a value shows that it is alive; and how long it
	// takes says little, as sets are larger than gets.
	s.report(thaw.KindOf(err) != thaw.Unavailable, 0)
	if err != nil {
		s.errors.Add(1)
		return err
	}
	s.stored.Add(1)
	return nil
}

// report tells the breaker how a request ended.
func (s *server) report(answered bool, took time.Duration) {
	switch s.breaker.report(time.Now(), answered, took) {
	case Open:
		s.opts.Log.Warn("L2: a server is slow or does not answer; it is not asked", "server", s.address)
	case Closed:
		s.opts.Log.Info("L2: a server is well again", "server", s.address)
	}
}

// close ends the connections and what is under way on them.
func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	conns := append(slices.Clone(s.reads), s.fills)
	s.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// ServerStats are the counters of one server since it joined.
type ServerStats struct {
	Address  string           `json:"address"`
	State    string           `json:"state"`    // of its breaker: closed, open or half-open
	Requests int64            `json:"requests"` // stripes asked for
	Hits     int64            `json:"hits"`     // stripes it gave, too late ones included
	Bytes    int64            `json:"bytes"`    // of these
	Errors   int64            `json:"errors"`   // requests without an answer, and values it did not take
	Bad      int64            `json:"bad"`      // stripes that were not what they should be
	Stored   int64            `json:"stored"`   // stripes stored there
	Mean     int64            `json:"mean_us"`  // answer time of late
	Latency  latency.Snapshot `json:"latency"`  // of its answers to gets
}

func (s *server) stats() ServerStats {
	state, mean := s.breaker.current()
	return ServerStats{
		Address: s.address, State: state, Requests: s.requests.Load(), Hits: s.hits.Load(), Bytes: s.bytes.Load(),
		Errors: s.errors.Load(), Bad: s.bad.Load(), Stored: s.stored.Load(), Mean: mean.Microseconds(), Latency: s.latency.Snapshot(),
	}
}
