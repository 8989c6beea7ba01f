// Package workingset is the record of what a start has read of an image: its
// chunks in the order in which they were first read, with the time of each. It
// is kept sealed beside the manifest, and the next start of the same version
// has the chunks fetched ahead, in that order.
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

// Item is a chunk of the working set.
type Item struct {
	Chunk int           // index in the manifest
	At    time.Duration // after the start's begin, to the microsecond
	Seen  int           // starts that read it, of the last ones, at most maxSeen
}

// Set is a working set, in the order of first reads.
type Set struct {
	Starts int // starts merged into it, at most maxSeen
	Items  []Item
}

const (
	// maxSeen is how many starts count: older ones fade, so that what a
	// version no longer reads leaves its set.
	maxSeen = 8

	// maxItems bounds a set: the chunks of an image of 10 GiB.
	maxItems = 1 << 20

	version = 1
)

// Key returns the key of the object that holds the set of an image's starts
// under a record key.
func Key(image thaw.ImageID, record string) string {
	return "workingset/" + image.String() + "/" + record
}

// Prefix is the prefix of the keys of all sets of an image.
func Prefix(image thaw.ImageID) string { return "workingset/" + image.String() + "/" }

// Merge returns the set with one more start in it. Chunks keep the earliest
// time at which a start read them; one that half of the last starts did not
// read is dropped.
func (s Set) Merge(start []Item) Set {
	byChunk := make(map[int]Item, len(s.Items)+len(start))
	fade := s.Starts >= maxSeen
	for _, it := range s.Items {
		if fade {
			it.Seen--
		}
		byChunk[it.Chunk] = it
	}
	for _, it := range start {
		old, known := byChunk[it.Chunk]
		if known {
			it.At = min(it.At, old.At)
		}
		it.Seen = min(old.Seen+1, maxSeen)
		byChunk[it.Chunk] = it
	}
	merged := Set{Starts: min(s.Starts+1, maxSeen)}
	for _, it := range byChunk {
		if it.Seen*2 >= merged.Starts {
			merged.Items = append(merged.Items, it)
		}
	}
	slices.SortFunc(merged.Items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Chunk, b.Chunk))
	})
	return merged
}

// Encode returns the set as bytes: a version byte, then as varints the starts,
// the number of items, and of each its chunk, its microseconds after the one
// before it, and its count.
func (s Set) Encode() []byte {
	b := []byte{version}
	b = binary.AppendUvarint(b, uint64(s.Starts))
	b = binary.AppendUvarint(b, uint64(len(s.Items)))
	var last int64
	for _, it := range s.Items {
		at := max(it.At.Microseconds(), last)
		b = binary.AppendUvarint(b, uint64(it.Chunk))
		b = binary.AppendUvarint(b, uint64(at-last))
		b = binary.AppendUvarint(b, uint64(it.Seen))
		last = at
	}
	return b
}

// Decode is the inverse of [Set.Encode] for an image of that many chunks;
// anything else is [thaw.Corrupt].
func Decode(b []byte, chunks int) (Set, error) {
	d := decoder{rest: b}
	if d.byte() != version {
		return Set{}, corrupt("its version is not %d", version)
	}
	starts, count := d.uvarint(), d.uvarint()
	if d.failed || starts < 1 || starts > maxSeen || count > maxItems || count > uint64(len(d.rest)) {
		return Set{}, corrupt("its head is not one")
	}
	s := Set{Starts: int(starts), Items: make([]Item, 0, count)}
	var at uint64
	for range count {
		index, after, seen := d.uvarint(), d.uvarint(), d.uvarint()
		at += after
		if d.failed || index >= uint64(chunks) || at > uint64(time.Hour/time.Microsecond) || seen < 1 || seen > maxSeen {
			return Set{}, corrupt("item %d is not one", len(s.Items))
		}
		s.Items = append(s.Items, Item{Chunk: int(index), At: time.Duration(at) * time.Microsecond, Seen: int(seen)})
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
