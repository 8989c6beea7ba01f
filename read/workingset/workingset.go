// SPDX-License-Identifier: Apache-2.0

// Package workingset is the record of what a start has read of an image: runs
// of blocks in the order in which they were first read, with the time of each.
// It is kept sealed beside the manifest, and the next start of the same version
// has what is in it fetched ahead, in that order.
//
// It knows the record's layout, how records of several starts become one, and
// the order and window of fetching ahead. It knows no key and no cache.
package workingset

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"thaw.dev/thaw"
)

// Run is a run of blocks of the image that starts have read.
type Run struct {
	Block, Blocks uint32        // in units of [thaw.BlockBytes], from the image's begin
	At            time.Duration // of its first read, after the start's begin, to the microsecond
	Seen          int           // starts that read it, of the last ones, at most maxSeen
}

// Set is a working set, in the order of first reads. No block is in two runs.
type Set struct {
	Starts int // starts merged into it, at most maxSeen
	Runs   []Run
	Pack   []Packed // chunks that hold the first blocks of Runs and nothing else; may be empty
}

const (
	// maxSeen is how many starts count: older ones fade, so that what a
	// version no longer reads leaves its set.
	maxSeen = 8

	// maxBlocks bounds a set: the blocks of an image of 10 GiB.
	maxBlocks = 10 << 30 / thaw.BlockBytes

	version = 3
)

// Key returns the key of the object that holds the set of an image's starts
// under a record key.
func Key(image thaw.ImageID, record string) string {
	return KeyPrefix + image.String() + "/" + record
}

// KeyPrefix is the prefix of every key that [Key] returns.
const KeyPrefix = "workingset/"

// Prefix is the prefix of the keys of all sets of an image.
func Prefix(image thaw.ImageID) string { return KeyPrefix + image.String() + "/" }

// Blocks returns how many blocks are in the set.
func (s Set) Blocks() int {
	n := 0
	for _, r := range s.Runs {
		n += int(r.Blocks)
	}
	return n
}

// seen is what is known of one block while sets are merged.
type seen struct {
	at time.Duration
	n  int
}

// Merge returns the set with one more start in it, of which the Seen are not
// looked at. It has no pack yet. Blocks keep the earliest time at which a start read them; one that
// half of the last starts did not read is dropped.
func (s Set) Merge(start []Run) Set {
	byBlock := make(map[uint32]seen, s.Blocks())
	fade := 0
	if s.Starts >= maxSeen {
		fade = 1
	}
	for _, r := range s.Runs {
		for b := r.Block; b < r.Block+r.Blocks; b++ {
			byBlock[b] = seen{at: r.At, n: r.Seen - fade}
		}
	}
	for _, r := range start {
		for b := r.Block; b < r.Block+r.Blocks; b++ {
			old, known := byBlock[b]
			if !known || r.At < old.at {
				old.at = r.At
			}
			byBlock[b] = seen{at: old.at, n: min(old.n+1, maxSeen)}
		}
	}
	starts := min(s.Starts+1, maxSeen)
	return Set{Starts: starts, Runs: runsOf(byBlock, starts)}
}

// runsOf returns the blocks that at least half of the starts read, as runs.
func runsOf(byBlock map[uint32]seen, starts int) []Run {
	var blocks []uint32
	for b, of := range byBlock {
		if of.n*2 >= starts {
			blocks = append(blocks, b)
		}
	}
	slices.Sort(blocks)
	var runs []Run
	for _, b := range blocks {
		of := byBlock[b]
		if n := len(runs); n > 0 && runs[n-1].Block+runs[n-1].Blocks == b && runs[n-1].Seen == of.n {
			runs[n-1].Blocks++
			runs[n-1].At = min(runs[n-1].At, of.at)
			continue
		}
		runs = append(runs, Run{Block: b, Blocks: 1, At: of.at, Seen: of.n})
	}
	slices.SortFunc(runs, func(a, b Run) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Block, b.Block))
	})
	return runs
}

// Encode returns the set as bytes: a version byte, then as varints the starts,
// the number of runs, and of each its first block, its length, its microseconds
// after the one before it, and its count; then the pack.
func (s Set) Encode() []byte {
	b := []byte{version}
	b = binary.AppendUvarint(b, uint64(s.Starts))
	b = binary.AppendUvarint(b, uint64(len(s.Runs)))
	var last int64
	for _, r := range s.Runs {
		at := max(r.At.Microseconds(), last)
		b = binary.AppendUvarint(b, uint64(r.Block))
		b = binary.AppendUvarint(b, uint64(r.Blocks))
		b = binary.AppendUvarint(b, uint64(at-last))
		b = binary.AppendUvarint(b, uint64(r.Seen))
		last = at
	}
	return appendPack(b, s.Pack)
}

// Decode is the inverse of [Set.Encode] for an image of that many bytes;
// anything else is [thaw.Corrupt].
func Decode(b []byte, imageBytes int64) (Set, error) {
	blocks := uint64(imageBytes+thaw.BlockBytes-1) / thaw.BlockBytes
	d := decoder{rest: b}
	if d.byte() != version {
		return Set{}, corrupt("its version is not %d", version)
	}
	starts, count := d.uvarint(), d.uvarint()
	if d.failed || starts < 1 || starts > maxSeen || count > maxBlocks || count > uint64(len(d.rest)) {
		return Set{}, corrupt("its head is not one")
	}
	s := Set{Starts: int(starts), Runs: make([]Run, 0, count)}
	var at, total uint64
	for range count {
		first, length, after, seen := d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
		at += after
		total += length
		if d.failed || length < 1 || first >= blocks || length > blocks-first || total > blocks ||
			at > uint64(time.Hour/time.Microsecond) || seen < 1 || seen > maxSeen {
			return Set{}, corrupt("run %d is not one", len(s.Runs))
		}
		s.Runs = append(s.Runs, Run{Block: uint32(first), Blocks: uint32(length), At: time.Duration(at) * time.Microsecond, Seen: int(seen)})
	}
	if s.Pack = d.pack(total); d.failed {
		return Set{}, corrupt("its pack is not one")
	}
	if len(d.rest) > 0 {
		return Set{}, corrupt("%d bytes follow it", len(d.rest))
	}
	return s, nil
}

// decoder takes values from the front of rest; failed sticks.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.failed = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func corrupt(format string, args ...any) error {
	return thaw.Errorf("working set", thaw.Corrupt, format, args...)
}
