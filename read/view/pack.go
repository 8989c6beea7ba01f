// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/pierrec/lz4/v4"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/format/seal"
	"thaw.dev/thaw/read/workingset"
)

// How the blocks of a packed chunk are written: its first byte
// (docs/format/workingset.md).
const (
	packedPlain = 0 // as they are
	packedLZ4   = 2 // 4 bytes of length, big-endian, a block of LZ4, and zeros
)

// packedHead is the length of what comes before a block of LZ4.
const packedHead = 1 + 4

// pack is a working set's pack in use.
type pack struct {
	chunks []manifest.Chunk // the last may have fewer blocks than the others
	places []place          // by block
	source thaw.ChunkSource
	opened opened
}

// place is where in the pack a run of the image's blocks is.
type place struct{ block, blocks, at uint32 }

// Pack seals the blocks of runs, in their order and up to that many, as chunks
// that hold nothing else, and gives each to put. What it returns lets
// [View.UsePack] read them. Sealing is convergent within the image: only who may
// open the image can make or open them. It reads the image, which no recording
// notes.
func (v *View) Pack(ctx context.Context, runs []workingset.Run, maxBlocks int, put func(thaw.NamedChunk) error) ([]workingset.Packed, error) {
	op := "view: pack " + v.id.String()
	var chunks []workingset.Packed
	plain := make([]byte, 0, thaw.MaxChunkBytes)
	flush := func() error {
		named, key := seal.Seal(nil, v.packSalt, encodePacked(plain))
		chunks = append(chunks, workingset.Packed{
			Name: named.Name(), Key: key, Bytes: uint32(len(named.Sealed())), Blocks: uint32(len(plain) / thaw.BlockBytes),
		})
		plain = plain[:0]
		return put(named)
	}
	for _, r := range runs {
		for r.Blocks > 0 && maxBlocks > 0 {
			n := min(int(r.Blocks), (cap(plain)-len(plain))/thaw.BlockBytes, maxBlocks)
			pieces, err := v.pieces(ctx, int64(r.Block)*thaw.BlockBytes, n*thaw.BlockBytes, false)
			if err != nil {
				return nil, thaw.Wrap(op, err)
			}
			for _, p := range pieces {
				plain = append(plain, p...)
			}
			r.Block, r.Blocks, maxBlocks = r.Block+uint32(n), r.Blocks-uint32(n), maxBlocks-n
			if len(plain) < cap(plain) {
				continue
			}
			if err := flush(); err != nil {
				return nil, thaw.Wrap(op, err)
			}
		}
	}
	if len(plain) > 0 {
		if err := flush(); err != nil {
			return nil, thaw.Wrap(op, err)
		}
	}
	return chunks, nil
}

// UsePack has reads of the runs' blocks answered from their pack, whose chunks
// source has, instead of the image's own chunks. A pack that can't be read is
// given up: what its blocks are is still in the image.
func (v *View) UsePack(set workingset.Set, source thaw.ChunkSource) {
	p := &pack{source: source}
	var blocks uint32
	for _, c := range set.Pack {
		p.chunks = append(p.chunks, manifest.Chunk{Name: c.Name, Key: c.Key, Blocks: c.Blocks, SealedBytes: c.Bytes})
		blocks += c.Blocks
	}
	var at uint32
	for _, r := range set.Runs {
		n := min(r.Blocks, blocks-at)
		if n == 0 {
			break
		}
		p.places = append(p.places, place{block: r.Block, blocks: n, at: at})
		at += n
	}
	slices.SortFunc(p.places, func(a, b place) int { return cmp.Compare(a.block, b.block) })
	v.pack.Store(p)
}

// LostPack reports whether a pack had to be given up.
func (v *View) LostPack() bool { return v.lostPack.Load() }

// find returns the chunk that holds a block of the image, its index, where in its
// plain bytes that is, and the end in the image of what follows there; 0 where the
// pack does not hold the block.
func (p *pack) find(block uint32) (c manifest.Chunk, index, from int, end int64) {
	i := sort.Search(len(p.places), func(i int) bool { return p.places[i].block > block }) - 1
	if i < 0 || block-p.places[i].block >= p.places[i].blocks {
		return c, 0, 0, 0
	}
	in := block - p.places[i].block
	at := p.places[i].at + in
	index = int(at / workingset.PackedBlocks)
	blocks := min(p.places[i].blocks-in, workingset.PackedBlocks-at%workingset.PackedBlocks)
	return p.chunks[index], index, int(at%workingset.PackedBlocks) * thaw.BlockBytes, int64(block+blocks) * thaw.BlockBytes
}

// appendPacked appends the bytes of a piece of a pack, or else of the image.
func (v *View) appendPacked(ctx context.Context, pieces [][]byte, p piece) ([][]byte, error) {
	plain, err := v.options.Plain.get(ctx, p.chunk, v.counted(&p.pack.opened, p.index, p.pack.open))
	if err == nil {
		return append(pieces, plain[p.from:p.to:p.to]), nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	if v.pack.CompareAndSwap(p.pack, nil) {
		v.lostPack.Store(true)
	}
	rest, err := v.pieces(ctx, p.off, p.to-p.from, false)
	return append(pieces, rest...), err
}

// open fetches, opens and decompresses a packed chunk.
func (p *pack) open(ctx context.Context, c manifest.Chunk) (thaw.PlainChunk, error) {
	return openChunk(ctx, p.source, c, decodePacked)
}

// encodePacked compresses blocks where that makes them shorter by a block or
// more. Zeros fill the last block, so that the length tells little of the
// content.
func encodePacked(plain []byte) []byte {
	b := make([]byte, packedHead+len(plain))
	// Fails where it would be too long, and is 0 where nothing can be compressed.
	n, err := lz4.CompressBlock(plain, b[packedHead:], nil)
	if whole := (packedHead + n + thaw.BlockBytes - 1) / thaw.BlockBytes * thaw.BlockBytes; err == nil && n > 0 && whole < len(plain) {
		b[0] = packedLZ4
		binary.BigEndian.PutUint32(b[1:], uint32(n))
		clear(b[packedHead+n : whole])
		return b[:whole]
	}
	b[0] = packedPlain
	return b[:1+copy(b[1:], plain)]
}

// decodePacked is the inverse of encodePacked for blocks of that many bytes.
func decodePacked(b []byte, plainBytes int) (thaw.PlainChunk, error) {
	switch {
	case len(b) == 1+plainBytes && b[0] == packedPlain:
		return slices.Clone(b[1:]), nil
	case len(b) >= packedHead && b[0] == packedLZ4:
		n := binary.BigEndian.Uint32(b[1:])
		if uint64(n) > uint64(len(b)-packedHead) {
			break
		}
		plain := make([]byte, plainBytes)
		if n, err := lz4.UncompressBlock(b[packedHead:packedHead+n], plain); err != nil || n != plainBytes {
			break
		}
		return plain, nil
	}
	return nil, thaw.Errorf("", thaw.Corrupt, "its bytes are no %d blocks", plainBytes/thaw.BlockBytes)
}
