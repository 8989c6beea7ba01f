// SPDX-License-Identifier: Apache-2.0

// Package placement chooses the worker for a cold start: of those with room, the
// one that most likely has the image's chunks in its L1. It is for fleets; on a
// single worker there is nothing to choose. It decides and keeps books, and does
// nothing else: no I/O, no clock, no chance.
//
// The image says where to look, by consistent hashing with bounded loads
// (Mirrokni, Thorup, Zadimoghaddam 2018): all starts of an image go to one worker
// until that one is loaded well above the mean, then to a second, and so on.
// The next choice is not the neighbour on the ring, which would get all that a
// loaded worker sheds, but where another hash of the image leads (Chen, Coleman,
// Shrivastava 2021). Functions with the same image share their choices; a
// worker that joins takes its share of the images, and no other image moves.
package placement

import (
	"encoding/binary"

	"thaw.dev/thaw"
)

const (
	// slack is how far above the mean a worker may be loaded before it is
	// passed over: one part in slack of it. A fifth of the room of all workers
	// is then below the bound, so that five looks find some on average.
	slack = 4

	// idle is the part of its memory up to which a worker counts as idle: one
	// in idle. Below it the bound does not apply, since to spread what would
	// fit costs hits and wins nothing.
	idle = 2

	// looks is how many choices an image has. Then the first worker with room is
	// taken, in the order of their IDs, one below the bound rather than one
	// above it. With a fifth below the bound, that is one start in a thousand.
	looks = 32
)

// Worker is a host of sandboxes, and what it can bear.
type Worker struct {
	ID       string // the same for as long as its L1 is the same
	MemoryMB int64  // for sandboxes
	Starts   int    // under way at once
}

// Host is a worker with what was placed on it. Its fields are for the [Fleet] to
// change.
type Host struct {
	Worker
	UsedMB   int64 // of sandboxes, from Place to Ended
	Starting int   // starts under way, from Place to Started
	index    int   // in Fleet.hosts; negative once it left
}

// Fleet is the workers of a zone. Use [New]. It is not safe for concurrent use.
type Fleet struct {
	hosts    []*Host // ascending by ID
	ring     ring
	usedMB   int64 // of all hosts
	memoryMB int64 // of all hosts
}

// New returns a fleet with nothing placed on it.
func New(workers []Worker) *Fleet {
	f := &Fleet{}
	f.SetWorkers(workers)
	return f
}

// SetWorkers replaces the workers, given in any order; of two with the same ID
// the last counts. What was placed on one that stays, stays.
func (f *Fleet) SetWorkers(workers []Worker) {
	old := map[string]*Host{}
	for _, h := range f.hosts {
		old[h.ID] = h
		h.index = -1
	}
	now := map[string]*Host{}
	for _, w := range workers {
		h := old[w.ID]
		if h == nil {
			h = &Host{}
		}
		h.Worker = w
		now[w.ID] = h
		old[w.ID] = h
	}
	f.hosts = sortedHosts(now)
	f.usedMB, f.memoryMB = 0, 0
	for i, h := range f.hosts {
		h.index = i
		f.usedMB += h.UsedMB
		f.memoryMB += h.MemoryMB
	}
	f.ring = newRing(f.hosts)
}

// Hosts returns the workers in ascending order of their IDs. The caller must not
// modify them.
func (f *Fleet) Hosts() []*Host { return f.hosts }

// Place chooses the worker for one start and books it there. The caller calls
// [Fleet.Started] when the start is over, however it ended, and [Fleet.Ended]
// when the sandbox is gone. It reports false where no worker has room: the start
// is to be refused.
func (f *Fleet) Place(image thaw.ImageID, memoryMB int64) (*Host, bool) {
	h := f.choose(binary.BigEndian.Uint64(image[:]), memoryMB) // of a hash: as good as random
	if h == nil {
		return nil, false
	}
	h.UsedMB += memoryMB
	h.Starting++
	f.usedMB += memoryMB
	return h, true
}

// Started says that a start placed on h is over.
func (f *Fleet) Started(h *Host) { h.Starting-- }

// Ended says that a sandbox placed on h is gone.
func (f *Fleet) Ended(h *Host, memoryMB int64) {
	h.UsedMB -= memoryMB
	if h.index >= 0 {
		f.usedMB -= memoryMB
	}
}

func (f *Fleet) choose(image uint64, memoryMB int64) *Host {
	if len(f.hosts) == 0 {
		return nil
	}
	// The load of all workers once this start is on one of them, as a part of
	// their memory.
	load := float64(f.usedMB+memoryMB) / float64(f.memoryMB)
	bound := max(load*(slack+1)/slack, 1./idle)
	within := func(h *Host) bool { return float64(h.UsedMB+memoryMB) <= bound*float64(h.MemoryMB) }
	for look := range looks {
		if h := f.hosts[f.ring.choice(image, look)]; h.fits(memoryMB) && within(h) {
			return h
		}
	}
	var above *Host // has room, if above the bound
	first := f.ring.choice(image, 0)
	for i := range f.hosts {
		h := f.hosts[(first+i)%len(f.hosts)]
		switch {
		case !h.fits(memoryMB):
		case within(h):
			return h
		case above == nil:
			above = h
		}
	}
	return above
}

// fits reports whether the worker can bear one more start.
func (h *Host) fits(memoryMB int64) bool {
	return h.Starting < h.Starts && h.UsedMB+memoryMB <= h.MemoryMB
}
