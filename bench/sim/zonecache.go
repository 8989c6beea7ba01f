// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"thaw.dev/thaw/read/tier/l2"
	"thaw.dev/thaw/read/tier/ring"
)

// zoneCache is L2: the stripes of pieces on servers, where package ring places
// them. A piece is kept where its first chunk's stripes belong; load is counted
// chunk by chunk. Five stripes are asked for, four suffice, and what a server
// lacks is stored again by the reader, as package l2 does it.
type zoneCache struct {
	pop     *population
	table   *ring.Table
	servers []*server          // in the order of the table
	byName  map[string]*server // those that left too
	need    int                // stripes that suffice
	bytes   int64              // of a server
}

type server struct {
	name    string
	dead    bool
	stripes *lru[piece]

	requests       int64 // of stripes
	out, in        int64 // bytes
	windowRequests int64 // since the last call of peak
	windowOut      int64
}

func newZoneCache(cfg config, pop *population) *zoneCache {
	z := &zoneCache{pop: pop, byName: map[string]*server{}, bytes: cfg.serverBytes}
	var names []string
	for i := range cfg.servers {
		names = append(names, fmt.Sprintf("10.1.%d.%d:11211", i/250, i%250))
	}
	z.setServers(names)
	return z
}

// setServers replaces the servers. One that was there before is as it was left.
func (z *zoneCache) setServers(names []string) {
	layout := l2.Striped
	if z.pop.cfg.noParity {
		layout.Parity = 0
	}
	if len(names) < layout.Stripes() { // as package l2 does it
		layout = l2.Whole
	}
	z.need = layout.Data
	z.table = ring.New(names, layout.Stripes())
	z.servers = nil
	for _, name := range z.table.Servers() {
		s := z.byName[name]
		if s == nil {
			s = &server{name: name, stripes: newLRU[piece](z.bytes)}
			z.byName[name] = s
		}
		z.servers = append(z.servers, s)
	}
}

// kill ends a server and all that it holds. It stays in the list of servers.
func (z *zoneCache) kill(s *server) {
	s.dead = true
	s.stripes = newLRU[piece](z.bytes)
}

// forget takes the dead out of the list, as discovery does.
func (z *zoneCache) forget() {
	var names []string
	for _, s := range z.servers {
		if !s.dead {
			names = append(names, s.name)
		}
	}
	z.setServers(names)
}

func (z *zoneCache) stripeBytes(q piece) int64 { return z.pop.bytes(q) / int64(z.need) }

// get reports whether the piece is held, and counts the load.
func (z *zoneCache) get(q piece) bool {
	asked, held := 0, 0
	var lacks [8]*server
	for _, i := range z.table.Place(nameOf(q, 0)) {
		s := z.servers[i]
		if s.dead {
			continue
		}
		asked++
		if s.stripes.get(q) {
			held++
		} else {
			lacks[asked-held-1] = s
		}
	}
	hit := held >= z.need
	z.count(q, hit)
	if hit {
		for _, s := range lacks[:asked-held] {
			s.stripes.add(q, z.stripeBytes(q))
		}
	}
	return hit
}

func (z *zoneCache) count(q piece, hit bool) {
	stripe := int64(z.pop.cfg.chunkBytes()) / int64(z.need)
	for chunk := range z.pop.chunks(q) {
		for _, i := range z.table.Place(nameOf(q, chunk)) {
			s := z.servers[i]
			if s.dead {
				continue
			}
			s.requests++
			s.windowRequests++
			if hit {
				s.out += stripe
				s.windowOut += stripe
			}
		}
	}
}

// put stores a piece that the origin gave.
func (z *zoneCache) put(q piece) {
	bytes := z.stripeBytes(q)
	for _, i := range z.table.Place(nameOf(q, 0)) {
		if s := z.servers[i]; !s.dead {
			s.stripes.add(q, bytes)
			s.in += bytes
		}
	}
}

// warm fills the servers as days of use would have: with everything, the most
// popular last.
func (z *zoneCache) warm() {
	for f := z.pop.cfg.functions - 1; f >= 0; f-- {
		z.put(z.pop.private(f))
	}
	for q := range z.pop.shared {
		z.put(q)
	}
	z.restart()
}

// restart begins the counting anew.
func (z *zoneCache) restart() {
	for _, s := range z.byName {
		s.requests, s.out, s.in = 0, 0, 0
	}
	z.peak()
}

// peak is the most that a server was asked for, and sent, since the last call.
func (z *zoneCache) peak() (requests, out int64) {
	for _, s := range z.servers {
		requests, out = max(requests, s.windowRequests), max(out, s.windowOut)
		s.windowRequests, s.windowOut = 0, 0
	}
	return requests, out
}

func (z *zoneCache) held() (bytes int64) {
	for _, s := range z.servers {
		bytes += s.stripes.bytes
	}
	return bytes
}
