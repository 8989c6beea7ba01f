// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"strconv"
	"sync"
)

// Stats is the state of the cache beside the counters of the tiers. Counts are
// of this process, and of chunks where nothing else is said.
type Stats struct {
	Stored     int64 `json:"stored"`     // whole, on all their servers
	Repaired   int64 `json:"repaired"`   // of which a stripe that one server lacked was stored
	Failed     int64 `json:"failed"`     // of which not all stripes could be stored
	Dropped    int64 `json:"dropped"`    // not stored since the queue was full
	Waiting    int64 `json:"waiting"`    // bytes, to be stored
	Salvages   int64 `json:"salvages"`   // second looks, after stripes that did not fit
	Unverified int64 `json:"unverified"` // that could not be put together after all
	Bad        int64 `json:"bad"`        // stripes that were not what they should be

	HeldBytes int64 `json:"held_bytes"` // on all servers that tell, whoever stored it
	MaxBytes  int64 `json:"max_bytes"`  // that they may hold in memory

	Servers []ServerStats `json:"servers"`
}

// Stats returns the counters, and what the servers that are well tell within the
// timeout of an answer.
func (l *L2) Stats(ctx context.Context) Stats {
	f := l.fleet.Load()
	st := Stats{
		Stored: l.queue.stored.Load(), Repaired: l.queue.repaired.Load(), Failed: l.queue.failed.Load(),
		Dropped: l.queue.dropped.Load(), Waiting: l.queue.waiting(),
		Salvages: l.salvages.Load(), Unverified: l.unverified.Load(),
		Servers: make([]ServerStats, len(f.servers)),
	}
	held, most := make([]int64, len(f.servers)), make([]int64, len(f.servers))
	var group sync.WaitGroup
	for i, s := range f.servers {
		st.Servers[i] = s.stats()
		st.Bad += st.Servers[i].Bad
		if st.Servers[i].State == Closed {
			group.Go(func() { held[i], most[i] = s.size(ctx) })
		}
	}
	group.Wait()
	for i := range held {
		st.HeldBytes += held[i]
		st.MaxBytes += most[i]
	}
	return st
}

// size asks a server what it holds and may hold, in bytes; zeros if it does not
// tell.
func (s *server) size(ctx context.Context) (held, most int64) {
	stats, err := s.filling().Stats(ctx)
	if err != nil {
		return 0, 0
	}
	held, _ = strconv.ParseInt(stats["bytes"], 10, 64) // zero if it is no number
	most, _ = strconv.ParseInt(stats["limit_maxbytes"], 10, 64)
	return held, most
}
