// Package view presents an image as one readable, sparse file: a read of a
// range becomes the chunks that hold it, each fetched from a [thaw.ChunkSource]
// which has checked its name, opened with its key from the manifest, unpacked,
// and only then copied out. Beside image/ingest it is the only package that
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
	"errors"
	"io"

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
}

// View is an open image. It is safe for concurrent use.
type View struct {
	id       thaw.ImageID
	tenant   thaw.TenantID
	manifest *manifest.Reader
	records  *seal.TableCipher // of what is kept beside the image
	options  Options

	// Reads are told the recorder, if there is one: see [View.Record].
	recorder recorder
}

// Open opens the image of that id for tenant. Errors: [thaw.NotFound] where
// there is no such image, [thaw.Denied] where it belongs to another tenant,
// [thaw.Corrupt], and what the store and the keys fail with.
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
	dek, err := v.options.Keys.Unwrap(ctx, h.Tenant, h.WrappedKey, h.WrapContext())
	if err != nil {
		return nil, err
	}
	if len(dek) != 32 {
		return nil, thaw.Errorf("unwrap", thaw.Corrupt, "the data key has %d bytes, not 32", len(dek))
	}
	v.records = seal.NewTableCipher(recordKey([32]byte(dek)))
	return seal.NewTableCipher([32]byte(dek)), nil
}

// ID returns the image's id.
func (v *View) ID() thaw.ImageID { return v.id }

// Tenant returns whose image it is.
func (v *View) Tenant() thaw.TenantID { return v.tenant }

// Size returns the size of the image in bytes.
func (v *View) Size() int64 { return v.manifest.Head().ImageBytes }

// Chunks returns the number of the image's chunks.
func (v *View) Chunks() int { return v.manifest.Len() }

// ReadAt fills p from the image at off. It returns fewer bytes only with an
// error: [io.EOF] at the image's end, [thaw.Corrupt] where a chunk is not what
// the manifest says, [thaw.Unavailable] where no tier could be reached. Of a
// chunk that failed no byte is returned.
func (v *View) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, thaw.Errorf("view: read", thaw.Invalid, "offset %d", off)
	}
	size := v.Size()
	if off >= size {
		return 0, io.EOF
	}
	var end error
	if rest := size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	if err := v.fill(ctx, p, off); err != nil {
		return 0, thaw.Wrap("view: read "+v.id.String(), err)
	}
	return len(p), end
}

// piece is the part of a read that one chunk holds.
type piece struct {
	chunk manifest.Chunk
	dst   []byte
	from  int // offset of dst within the chunk's plain bytes
}

func (v *View) fill(ctx context.Context, p []byte, off int64) error {
	first, err := v.next(ctx, &p, &off)
	if err != nil {
		return err
	}
	if len(p) == 0 { // the usual case: one chunk has it all
		return v.copyPiece(ctx, first)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelChunks)
	group.Go(func() error { return v.copyPiece(ctx, first) })
	for len(p) > 0 {
		next, err := v.next(ctx, &p, &off)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error { return v.copyPiece(ctx, next) })
	}
	return group.Wait()
}

// next finds the chunk that holds off, cuts its part from p, and moves off on.
func (v *View) next(ctx context.Context, p *[]byte, off *int64) (piece, error) {
	c, index, err := v.manifest.ByBlock(ctx, uint32(*off/thaw.BlockBytes))
	if err != nil {
		return piece{}, err
	}
	if !c.Name.IsZero() {
		v.recorder.touch(index)
	}
	from := int(*off - int64(c.Block)*thaw.BlockBytes)
	n := min(len(*p), int(c.Blocks)*thaw.BlockBytes-from)
	out := piece{chunk: c, dst: (*p)[:n], from: from}
	*p, *off = (*p)[n:], *off+int64(n)
	return out, nil
}

func (v *View) copyPiece(ctx context.Context, p piece) error {
	if p.chunk.Name.IsZero() {
		clear(p.dst)
		return nil
	}
	plain, err := v.options.Plain.get(ctx, p.chunk, v.open)
	if err != nil {
		return err
	}
	copy(p.dst, plain[p.from:])
	return nil
}

// open fetches, opens and unpacks a chunk.
func (v *View) open(ctx context.Context, c manifest.Chunk) (thaw.PlainChunk, error) {
	sealed, err := v.options.Chunks.Get(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	if len(sealed) != int(c.SealedBytes) {
		return nil, thaw.Errorf("chunk "+c.Name.String(), thaw.Corrupt, "%d bytes, the manifest says %d", len(sealed), c.SealedBytes)
	}
	packed := seal.Open(c.Key, sealed, make([]byte, 0, len(sealed)))
	plainBytes := int(c.Blocks) * thaw.BlockBytes
	plain, err := chunk.Unpack(make([]byte, 0, plainBytes), packed, plainBytes)
	if err != nil {
		return nil, thaw.Wrap("chunk "+c.Name.String(), err)
	}
	return plain, nil
}

// Name returns the name and the sealed size of chunk i; the zero name is a
// chunk of zeros. Fetching ahead works with names alone.
func (v *View) Name(ctx context.Context, i int) (thaw.ChunkName, int64, error) {
	c, err := v.manifest.At(ctx, i)
	return c.Name, int64(c.SealedBytes), thaw.Wrap("view: chunk", err)
}
