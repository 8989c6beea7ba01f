package view

import (
	"cmp"
	"context"
	"slices"
	"sort"

	"github.com/klauspost/compress/s2"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/format/seal"
	"thaw.dev/thaw/read/workingset"
)

// How the blocks of a packed chunk are written: its first byte.
const (
	packedPlain = 0
	packedS2    = 1 // as one block of S2, which includes Snappy's format
)

// pack is a working set's pack in use.
type pack struct {
	chunks []manifest.Chunk // the last may have fewer blocks than the others
	places []place          // by block
	source thaw.ChunkSource
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
			pieces, err := v.pieces(ctx, int64(r.Block)*thaw.BlockBytes, n*thaw.BlockBytes, &recorder{})
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

// find returns the chunk that holds a block of the image, where in its plain
// bytes that is, and the end in the image of what follows there; 0 where the
// pack does not hold the block.
func (p *pack) find(block uint32) (c manifest.Chunk, from int, end int64) {
	i := sort.Search(len(p.places), func(i int) bool { return p.places[i].block > block }) - 1
	if i < 0 || block-p.places[i].block >= p.places[i].blocks {
		return c, 0, 0
	}
	in := block - p.places[i].block
	at := p.places[i].at + in
	c = p.chunks[at/workingset.PackedBlocks]
	blocks := min(p.places[i].blocks-in, workingset.PackedBlocks-at%workingset.PackedBlocks)
	return c, int(at%workingset.PackedBlocks) * thaw.BlockBytes, int64(block+blocks) * thaw.BlockBytes
}

// appendPacked appends the bytes of a piece of a pack, or else of the image.
func (v *View) appendPacked(ctx context.Context, pieces [][]byte, p piece) ([][]byte, error) {
	plain, err := v.options.Plain.get(ctx, p.chunk, p.pack.open)
	if err == nil {
		return append(pieces, plain[p.from:p.to:p.to]), nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	if v.pack.CompareAndSwap(p.pack, nil) {
		v.lostPack.Store(true)
	}
	rest, err := v.pieces(ctx, p.off, p.to-p.from, &recorder{})
	return append(pieces, rest...), err
}

// open fetches and opens a packed chunk.
func (p *pack) open(ctx context.Context, c manifest.Chunk) (thaw.PlainChunk, error) {
	sealed, err := p.source.Get(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	buffer := packed.Get().(*[]byte) // nothing else is in it
	defer packed.Put(buffer)
	*buffer = seal.Open(c.Key, sealed, (*buffer)[:0])
	plain, err := decodePacked(*buffer, int(c.Blocks)*thaw.BlockBytes)
	return plain, thaw.Wrap("packed chunk "+c.Name.String(), err)
}

// encodePacked compresses blocks where that makes them shorter.
func encodePacked(plain []byte) []byte {
	b := make([]byte, 1+s2.MaxEncodedLen(len(plain)))
	if n := len(s2.EncodeBetter(b[1:], plain)); n < len(plain) { // it has the room it needs
		b[0] = packedS2
		return b[:1+n]
	}
	b[0] = packedPlain
	return b[:1+copy(b[1:], plain)]
}

// decodePacked is the inverse of encodePacked for blocks of that many bytes.
func decodePacked(b []byte, plainBytes int) (thaw.PlainChunk, error) {
	if len(b) == 0 {
		return nil, thaw.Errorf("", thaw.Corrupt, "it is empty")
	}
	switch kind, rest := b[0], b[1:]; kind {
	case packedPlain:
		if len(rest) == plainBytes {
			return slices.Clone(rest), nil
		}
	case packedS2:
		if n, err := s2.DecodedLen(rest); err != nil || n != plainBytes {
			break
		}
		plain, err := s2.Decode(make([]byte, plainBytes), rest)
		if err != nil {
			return nil, thaw.Errorf("", thaw.Corrupt, "%w", err)
		}
		return plain, nil
	}
	return nil, thaw.Errorf("", thaw.Corrupt, "its %d bytes are no %d blocks", len(b), plainBytes/thaw.BlockBytes)
}
