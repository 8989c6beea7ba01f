// SPDX-License-Identifier: Apache-2.0

package tier

import (
	"sync/atomic"
	"time"

	"thaw.dev/thaw/read/latency"
)

// Stats is what a [Stack] has done since it was made, tier by tier in the order
// in which they are asked.
type Stats struct {
	Tiers []TierStats `json:"tiers"`
	// Shared counts reads that got what another reader was fetching already.
	Shared int64 `json:"shared"`
	// Ahead counts the chunks fetched ahead from the origin. They are in the
	// origin's counters too.
	Ahead int64 `json:"ahead"`
	// Offered counts the chunks that were made here ([Stack.Offer]).
	Offered int64 `json:"offered"`
	// CorruptAtOrigin counts answers of the origin that it found not to have
	// the name asked for. Each is an alarm.
	CorruptAtOrigin int64 `json:"corrupt_at_origin"`
	// LostAtOrigin counts answers of the origin that it has no such chunk. Each
	// is an alarm too: nobody asks for a chunk that no manifest names.
	LostAtOrigin int64 `json:"lost_at_origin"`
}

// TierStats are the counters of one tier.
type TierStats struct {
	Name     string           `json:"name"`
	Requests int64            `json:"requests"` // chunks asked of this tier
	Hits     int64            `json:"hits"`     // chunks it gave; the rest went on to the next
	Bytes    int64            `json:"bytes"`    // sealed bytes it gave
	Errors   int64            `json:"errors"`   // answers that were neither a hit nor a miss
	Latency  latency.Snapshot `json:"latency"`  // of its hits
}

// Find returns the counters of the tier of that name.
func (s Stats) Find(name string) TierStats {
	for _, t := range s.Tiers {
		if t.Name == name {
			return t
		}
	}
	return TierStats{Name: name}
}

// counters are the live form of TierStats.
type counters struct {
	requests, hits, bytes, errors atomic.Int64
	latency                       latency.Histogram
}

func (c *counters) hit(bytes int, since time.Time) {
	c.hits.Add(1)
	c.bytes.Add(int64(bytes))
	c.latency.Observe(time.Since(since))
}

func (c *counters) snapshot(name string) TierStats {
	return TierStats{
		Name: name, Requests: c.requests.Load(), Hits: c.hits.Load(),
		Bytes: c.bytes.Load(), Errors: c.errors.Load(), Latency: c.latency.Snapshot(),
	}
}
