// SPDX-License-Identifier: Apache-2.0

package workingset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"thaw.dev/thaw"
)

const (
	// PackedBlocks is how many blocks each chunk of a pack holds, but the last,
	// which may hold fewer.
	PackedBlocks = thaw.MaxChunkBytes / thaw.BlockBytes

	// maxPackedBytes bounds a sealed chunk of a pack: a byte says how the blocks
	// are written.
	maxPackedBytes = 1 + thaw.MaxChunkBytes

	// SegmentChunks is how many chunks are stored as one object, the last with
	// what is left. A chunk is read alone, but an object costs a durable write,
	// or a request.
	SegmentChunks = 16
)

// Packed is a chunk of a set's pack: the blocks of its runs, in their order.
type Packed struct {
	Name   thaw.ChunkName // of the sealed chunk
	Key    [32]byte       // opens it
	Bytes  uint32         // of the sealed chunk
	Blocks uint32         // that it holds
}

// Place is where a chunk of a pack is stored.
type Place struct {
	Key   string // of the object
	Off   int64
	Bytes int
}

// Places returns where the chunks of the set's pack are stored.
func (s Set) Places(image thaw.ImageID, record string) map[thaw.ChunkName]Place {
	places := make(map[thaw.ChunkName]Place, len(s.Pack))
	for segment := range slices.Chunk(s.Pack, SegmentChunks) {
		names := make([]thaw.ChunkName, len(segment))
		for i, c := range segment {
			names[i] = c.Name
		}
		p := Place{Key: SegmentKey(image, record, names)}
		for _, c := range segment {
			p.Bytes = int(c.Bytes)
			places[c.Name] = p
			p.Off += int64(c.Bytes)
		}
	}
	return places
}

// SegmentKey is the key of the object that holds the chunks of these names, end
// to end. It follows from them, so that what one pack has stored another never
// overwrites.
func SegmentKey(image thaw.ImageID, record string, names []thaw.ChunkName) string {
	h := sha256.New()
	for _, name := range names {
		h.Write(name[:])
	}
	return PackPrefix(image, record) + hex.EncodeToString(h.Sum(nil)[:16])
}

// PackPrefix is the prefix of the keys of all segments of a record.
func PackPrefix(image thaw.ImageID, record string) string {
	return "pack/" + image.String() + "/" + record + "/"
}

// beyondPack returns the runs of blocks that are not in the pack.
func (s Set) beyondPack() []Run {
	var packed uint32
	for _, c := range s.Pack {
		packed += c.Blocks
	}
	for i, r := range s.Runs {
		if packed < r.Blocks {
			r.Block, r.Blocks = r.Block+packed, r.Blocks-packed
			return append([]Run{r}, s.Runs[i+1:]...)
		}
		packed -= r.Blocks
	}
	return nil
}

func appendPack(b []byte, pack []Packed) []byte {
	b = binary.AppendUvarint(b, uint64(len(pack)))
	for _, c := range pack {
		b = binary.AppendUvarint(b, uint64(c.Blocks))
		b = binary.AppendUvarint(b, uint64(c.Bytes))
		b = append(b, c.Name[:]...)
		b = append(b, c.Key[:]...)
	}
	return b
}

// pack reads the pack of a set of that many blocks.
func (d *decoder) pack(blocks uint64) []Packed {
	count := d.uvarint()
	if count > uint64(len(d.rest)) {
		d.failed = true
	}
	var pack []Packed
	for i := uint64(0); i < count && !d.failed; i++ {
		held, bytes := d.uvarint(), d.uvarint()
		last := i == count-1
		if held < 1 || held > PackedBlocks || held < PackedBlocks && !last || held > blocks || bytes < 1 || bytes > maxPackedBytes {
			d.failed = true
			break
		}
		blocks -= held
		c := Packed{Blocks: uint32(held), Bytes: uint32(bytes)}
		d.copy(c.Name[:])
		d.copy(c.Key[:])
		pack = append(pack, c)
	}
	return pack
}

func (d *decoder) copy(to []byte) {
	if len(d.rest) < len(to) {
		d.failed = true
		return
	}
	d.rest = d.rest[copy(to, d.rest):]
}
