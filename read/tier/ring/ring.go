// SPDX-License-Identifier: Apache-2.0

// Package ring says on which servers of the zone cache the stripes of a chunk
// live. It is pure: the same servers give the same places in every process, and
// nothing has to be agreed or stored.
//
// Names fall into a fixed number of slots, and each slot has an order in which
// it prefers servers: that of a hash of slot and server (rendezvous hashing).
// Slots choose one after the other, each the servers that it likes best among
// those that still have room, and none has room for more than its even share
// and a tenth. That is consistent hashing with bounded loads (Mirrokni, Thorup,
// Zadimoghaddam 2018) done once for all slots instead of request by request, so
// that readers without a common memory agree. A server that joins takes its
// share of the slots, one that leaves gives up its own, and of the others' all
// but a few stay where they are.
package ring

import (
	"encoding/binary"
	"hash/fnv"
	"slices"

	"thaw.dev/thaw"
)

const (
	// Slots is the number of slots. At 1,000 servers a slot more or less is
	// then 0.6 % of a server's load at a width of 5.
	Slots = 1 << 15

	// slack is how far above the even share a server may be loaded: one part in
	// slack of it. Below a tenth the bound binds often, and each time that it
	// does a slot moves which otherwise would not.
	slack = 10
)

// Table is the placement for one set of servers. It is immutable.
type Table struct {
	servers []string
	width   int
	places  []uint16 // width for each slot, indices into servers
}

// New returns the placement of width stripes on the servers, whose order and
// repetition do not matter. It takes about 6 ns for each slot and server: 20 ms
// for 100 servers. More than 65,535 servers panic, as does a width below one.
func New(servers []string, width int) *Table {
	servers = slices.Compact(slices.Sorted(slices.Values(servers)))
	if width < 1 || len(servers) > 1<<16-1 {
		panic("ring: a width below one, or too many servers")
	}
	t := &Table{servers: servers, width: min(width, len(servers))}
	t.places = make([]uint16, 0, Slots*t.width)
	seeds := make([]uint64, len(servers))
	for i, s := range servers {
		h := fnv.New64a()
		h.Write([]byte(s))
		seeds[i] = mix(h.Sum64())
	}
	c := chooser{seeds: seeds, load: make([]int, len(servers)), room: t.Bound()}
	for slot := range Slots {
		t.places = c.choose(t.places, mix(uint64(slot)+1), t.width)
	}
	return t
}

// Servers returns the servers in ascending order. The caller must not modify
// them.
func (t *Table) Servers() []string { return t.servers }

// Bound is the greatest number of slots that a server is given.
func (t *Table) Bound() int {
	if len(t.servers) == 0 {
		return 0
	}
	n := len(t.servers)
	return (Slots*t.width*(slack+1) + n*slack - 1) / (n * slack)
}

// Place returns the servers for the stripes of a chunk: distinct indices into
// [Table.Servers], as many as the width or as there are servers. The caller
// must not modify them. It does not allocate.
func (t *Table) Place(name thaw.ChunkName) []uint16 {
	// Names are hashes: any bits of one are as good as random.
	return t.slot(int(binary.BigEndian.Uint64(name[:]) % Slots))
}

func (t *Table) slot(i int) []uint16 {
	from, to := i*t.width, (i+1)*t.width
	return t.places[from:to:to]
}

// chooser chooses for one slot after the other.
type chooser struct {
	seeds []uint64 // a server
	load  []int    // a server: slots given to it
	room  int      // the bound of load
	best  []candidate
}

type candidate struct {
	server int
	score  uint64
}

// choose appends the width servers that the slot likes best among those with
// room.
func (c *chooser) choose(places []uint16, slot uint64, width int) []uint16 {
	c.best = c.best[:0]
	for server, seed := range c.seeds {
		if c.load[server] < c.room {
			c.consider(candidate{server, mix(seed ^ slot)}, width)
		}
	}
	for server, seed := range c.seeds {
		// The room left may be that of too few servers. Hashes do not do that,
		// and if they did a load above the bound would be the lesser evil.
		if len(c.best) == width {
			break
		}
		if c.load[server] >= c.room {
			c.consider(candidate{server, mix(seed ^ slot)}, width)
		}
	}
	for _, b := range c.best {
		c.load[b.server]++
		places = append(places, uint16(b.server))
	}
	return places
}

// consider keeps the width candidates of the highest score, best first.
func (c *chooser) consider(n candidate, width int) {
	i := len(c.best)
	for i > 0 && c.best[i-1].score < n.score {
		i--
	}
	if i >= width {
		return
	}
	if len(c.best) < width {
		c.best = append(c.best, n)
	}
	copy(c.best[i+1:], c.best[i:])
	c.best[i] = n
}

// mix is the finalizer of SplitMix64: every bit of x decides on every bit of
// the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
