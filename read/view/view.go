// SPDX-License-Identifier: Apache-2.0

// Package view presents an image as one readable, sparse file: a read of a
// range becomes the chunks that hold it, each fetched from a [thaw.ChunkSource]
// which has checked its name, opened with its key from the manifest, unpacked,
// and only then given out. Beside image/ingest it is the only package that
// ever holds a chunk's key.
//
// It knows manifests, keys and chunks. It does not know which tier answered,
// nor who reads.
//
// Opening a view reads the manifest's head and one index page, however large
// the image is; further pages are read when a read first needs them.
package view

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/chunk"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/format/seal"
)

// parallelChunks bounds the chunks that one read fetches at a time. The
// kernel's largest read is 1 MiB, which four chunks of the largest size hold;
// more than that are small ones, which are cheap.
const parallelChunks = 8

// Options is what views are opened with; views of one worker share all of it.
type Options struct {
	Objects thaw.Objects     // holds the manifests
	Chunks  thaw.ChunkSource // the tiers
	Keys    thaw.KeyWrapper  // unwraps a manifest's data key
	Plain   *PlainCache      // opened chunks
	Ahead   *Ahead           // opens what reads in order come to next; nil: nothing does

	// Again is told of each chunk that was opened before and had to be once more,
	// and how long that took. It must not block. nil discards.
	Again func(tenant thaw.TenantID, took time.Duration)
}

// View is an open image. It is safe for concurrent use.
type View struct {
	id       thaw.ImageID
	tenant   thaw.TenantID
	manifest *manifest.Reader
	records  *seal.TableCipher // of what is kept beside the image
	packSalt seal.Salt         // of packs of the image
	options  Options

	pack     atomic.Pointer[pack] // nil where there is none
	lostPack atomic.Bool          // one was given up
	opened   opened

	// Reads are told the recorder, if there is one: see [View.Record].
	recorder recorder
	runs     runs
}

// Open opens the image of that id for tenant. Errors: [thaw.NotFound] where
// there is no such image, [thaw.Denied] where it belongs to another tenant,
// [thaw.Lost] where the tenant's keys are missing or don't open it,
// [thaw.Corrupt], and what the store fails with.
func Open(ctx context.Context, tenant thaw.TenantID, id thaw.ImageID, o Options) (*View, error) {
	op := "view: open " + id.String()
	v := &View{id: id, tenant: tenant, options: o}
	var err error
	v.manifest, err = manifest.Open(ctx, manifest.FromObjects(o.Objects, id), id, v.unwrap)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	return v, nil
}

// unwrap gets the data key of the manifest, if it is the tenant's.
func (v *View) unwrap(ctx context.Context, h manifest.Head) (manifest.Cipher, error) {
	if h.Tenant != v.tenant {
		return nil, thaw.Errorf("unwrap", thaw.Denied, "the image is not tenant %s's", v.tenant)
	}
	// Whose image it is was checked: a key that does not open it is ours to mend.
	dek, err := v.options.Keys.Unwrap(ctx, h.Tenant, h.WrappedKey, h.WrapContext())
	if err != nil {
		return nil, thaw.OurFault("", err)
	}
	if len(dek) != 32 {
		return nil, thaw.Errorf("unwrap", thaw.Corrupt, "the data key has %d bytes, not 32", len(dek))
	}
	v.records = seal.NewTableCipher(derive([32]byte(dek), "record"))
	v.packSalt = derive([32]byte(dek), "pack")
	return seal.NewTableCipher([32]byte(dek)), nil
}

// ID returns the image's id.
func (v *View) ID() thaw.ImageID { return v.id }

// Tenant returns whose image it is.
func (v *View) Tenant() thaw.TenantID { return v.tenant }

// Size returns the size of the image in bytes.
func (v *View) Size() int64 { return v.manifest.Head().ImageBytes }

// MetaBytes returns how many bytes of metadata the image begins with.
func (v *View) MetaBytes() int64 { return v.manifest.Head().MetaBytes }

// Chunks returns the number of the image's chunks.
func (v *View) Chunks() int { return v.manifest.Len() }

// Read returns the bytes of the image from off on, n of them or as many as
// there are before its end, as pieces in order. They are the view's own:
// nobody may modify them, and anybody may keep them. Errors: [thaw.Corrupt]
// where a chunk is not what the manifest says, [thaw.Unavailable] where no tier
// could be reached. With an error there are no bytes.
func (v *View) Read(ctx context.Context, off int64, n int) ([][]byte, error) {
	if off < 0 || n < 0 {
		return nil, thaw.Errorf("view: read", thaw.Invalid, "%d bytes at %d", n, off)
	}
	n = int(min(int64(n), max(0, v.Size()-off)))
	pieces, err := v.pieces(ctx, off, n, true)
	if err != nil {
		return nil, thaw.Wrap("view: read "+v.id.String(), err)
	}
	return pieces, nil
}

// pieces reads. A reader's reads are noted, and show what to open ahead; those that
// the view makes for itself are neither.
func (v *View) pieces(ctx context.Context, off int64, n int, reader bool) ([][]byte, error) {
	if n == 0 {
		return nil, nil
	}
	first, err := v.next(ctx, &off, &n, reader)
	if err != nil {
		return nil, err
	}
	if n == 0 { // the usual case: one chunk has it all
		return v.append(ctx, nil, first)
	}
	parts := []piece{first}
	for n > 0 {
		p, err := v.next(ctx, &off, &n, reader)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	opened := make([][][]byte, len(parts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelChunks)
	for i, p := range parts {
		group.Go(func() (err error) {
			opened[i], err = v.append(ctx, nil, p)
			return err
		})
	}
	err = group.Wait()
	return slices.Concat(opened...), err
}

// piece is the part of a read that one chunk holds.
type piece struct {
	chunk    manifest.Chunk
	index    int   // of the chunk
	from, to int   // within the chunk's plain bytes
	off      int64 // in the image
	pack     *pack // that the chunk is of; nil for the image's own
}

// next finds the chunk that holds off and takes its part from off and n.
func (v *View) next(ctx context.Context, off *int64, n *int, reader bool) (piece, error) {
	block := uint32(*off / thaw.BlockBytes)
	p := piece{off: *off}
	var end int64 // in the image, of what the chunk holds from off on
	if pack := v.pack.Load(); pack != nil {
		p.chunk, p.index, p.from, end = pack.find(block)
		p.pack = pack
	}
	if end == 0 {
		c, index, err := v.manifest.ByBlock(ctx, block)
		if err != nil {
			return piece{}, err
		}
		if reader {
			v.openAhead(index)
		}
		p.chunk, p.index = c, index
		p.from, end, p.pack = int(block-c.Block)*thaw.BlockBytes, int64(c.Block+c.Blocks)*thaw.BlockBytes, nil
	}
	length := int(min(int64(*n), end-*off))
	p.from += int(*off % thaw.BlockBytes)
	p.to = p.from + length
	if reader && !p.chunk.Name.IsZero() {
		v.recorder.touch(block, uint32((*off+int64(length)-1)/thaw.BlockBytes)-block+1)
	}
	*off, *n = *off+int64(length), *n-length
	return p, nil
}

// zeros is what chunks of zeros read as, which may be longer.
var zeros [64 << 10]byte

// append appends the bytes of a piece to pieces.
func (v *View) append(ctx context.Context, pieces [][]byte, p piece) ([][]byte, error) {
	if p.chunk.Name.IsZero() {
		for n := p.to - p.from; n > 0; n -= len(zeros) {
			pieces = append(pieces, zeros[:min(n, len(zeros))])
		}
		return pieces, nil
	}
	if p.pack != nil {
		return v.appendPacked(ctx, pieces, p)
	}
	plain, err := v.options.Plain.get(ctx, p.chunk, v.counted(&v.opened, p.index, v.open))
	if err != nil {
		return nil, err
	}
	return append(pieces, plain[p.from:p.to:p.to]), nil
}

// packed holds buffers for chunks that are opened and not yet unpacked.
var packed = sync.Pool{New: func() any { return new([]byte) }}

// open fetches, opens and unpacks a chunk of the image.
func (v *View) open(ctx context.Context, c manifest.Chunk) (thaw.PlainChunk, error) {
	return openChunk(ctx, v.options.Chunks, c, func(packed []byte, plainBytes int) (thaw.PlainChunk, error) {
		return chunk.Unpack(make([]byte, 0, plainBytes), packed, plainBytes)
	})
}

// openChunk fetches a chunk from source, opens it, and has it unpacked.
func openChunk(ctx context.Context, source thaw.ChunkSource, c manifest.Chunk, unpack func(packed []byte, plainBytes int) (thaw.PlainChunk, error)) (thaw.PlainChunk, error) {
	sealed, err := source.Get(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	op := "chunk " + c.Name.String()
	if len(sealed) != int(c.SealedBytes) {
		return nil, thaw.Errorf(op, thaw.Corrupt, "%d bytes, the manifest says %d", len(sealed), c.SealedBytes)
	}
	buffer := packed.Get().(*[]byte) // nothing else is in it
	defer packed.Put(buffer)
	*buffer = seal.Open(c.Key, sealed, (*buffer)[:0])
	plain, err := unpack(*buffer, int(c.Blocks)*thaw.BlockBytes)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	return plain, nil
}
