// SPDX-License-Identifier: Apache-2.0

// Package manifest is the table of an image's chunks: their places in the
// image's address space, their names, in clear, and their keys, sealed. It
// knows the layout of the table and its versions; it knows no cipher (the
// caller brings a [Cipher]) and no store (the caller brings a [Source]), and
// starts no goroutine.
//
// A manifest is a head, a tree of index pages, and leaf pages of 256 chunks
// each. The image's id is the hash of the head; the head holds the hash of the
// root of the index, which holds the hashes of the pages below it. So opening a
// manifest reads the head and one index page however large the image is, each
// further page is read when it is first wanted, and every byte is
// authenticated before it is believed. The byte layout is in
// docs/format/manifest.md.
//
// What is not a well-formed manifest is [thaw.Corrupt]; a manifest whose keys
// the caller may not have is [thaw.Denied].
package manifest

import (
	"context"

	"thaw.dev/thaw"
)

const (
	// PageChunks is the number of chunks in a leaf page, and of children of an
	// index page. With chunks near their cap a page covers 64 MiB of the image.
	PageChunks = 256

	// MaxSealedBytes bounds the sealed bytes of one chunk: the plain bytes and
	// the header that chunk.Pack adds, which is less than a block.
	MaxSealedBytes = thaw.MaxChunkBytes + thaw.BlockBytes

	// MaxChunks bounds the chunks of one image: an address space of 2^32
	// blocks cut as finely as cutting allows would pass it, a real image of
	// [thaw.MaxImageBytes] is a thousand times below. It keeps the index at
	// three levels.
	MaxChunks = PageChunks * PageChunks * PageChunks

	maxHeadBytes    = 16 << 10
	maxDomains      = 16
	maxDomainBytes  = 128
	maxRootBytes    = 128
	maxDigestBytes  = 256
	maxWrappedBytes = 4 << 10
	maxBlocks       = thaw.MaxChunkBytes / thaw.BlockBytes
)

// Chunk is one entry of the table: an extent of the image's address space and
// how to get its bytes. A Chunk with a zero Name is zeros: it is stored
// nowhere, and has neither sealed bytes nor a key.
type Chunk struct {
	Block       uint32         // first block of the extent, in units of thaw.BlockBytes
	Blocks      uint32         // its length in blocks, 1 to 64
	Domain      uint8          // index into Head.Domains
	SealedBytes uint32         // length of the sealed form; 0 for zeros
	Name        thaw.ChunkName // zero for zeros
	Key         [32]byte       // opens the chunk; zero for zeros and in a manifest opened for names only
}

// Head is what a manifest says of the image as a whole. It is stored in clear
// and authenticated by the image's id.
type Head struct {
	Tenant       thaw.TenantID // whose image it is, and under whose key WrappedKey is wrapped
	Root         thaw.RootID   // the root that holds the chunks
	Domains      []thaw.Domain // the domains that Chunk.Domain points into; 1 to 16, no two equal
	ImageBytes   int64         // size of the image's address space, a whole number of blocks
	MetaBytes    int64         // the part of it at the front that is metadata
	Files        int64         // regular files, each inode once
	Dirs         int64         // directories
	Links        int64         // other names: symbolic links and further names of an inode
	LayerBytes   int64         // uncompressed bytes of the layers the image was made from
	SourceDigest string        // digest of the OCI manifest, such as "sha256:..."; may be empty
	WrappedKey   []byte        // the manifest's data key, wrapped with WrapContext; opaque here
	Chunks       int           // number of chunks; Encode sets it
}

// WrapContext is the context under which the data key of this manifest must be
// wrapped and unwrapped (see [thaw.KeyWrapper]): it binds a wrapped key to
// this use, the tenant and the root.
func (h Head) WrapContext() []byte {
	b := []byte("thaw/manifest/v1/dek")
	b = appendString(b, string(h.Tenant))
	return appendString(b, string(h.Root))
}

// Cipher seals and opens the key tables of one manifest. seal.TableCipher is
// one. Open must fail on anything that Seal did not make from the same number
// and aad; overhead is what Seal adds, which must be [SealOverhead] bytes.
// Implementations are safe for concurrent use.
type Cipher interface {
	Seal(number uint64, plain, aad []byte) []byte
	Open(number uint64, sealed, aad []byte) ([]byte, error)
}

// SealOverhead is by how many bytes a [Cipher] lengthens a table.
const SealOverhead = 16

// Source reads a stored manifest. ReadAt returns n bytes from offset off, fewer
// only at the end. Implementations are safe for concurrent use.
type Source interface {
	ReadAt(ctx context.Context, off int64, n int) ([]byte, error)
}

// Key returns the key of the object in which the manifest of image id is
// stored.
func Key(id thaw.ImageID) string { return KeyPrefix + id.String() }

// KeyPrefix is the prefix of every key that [Key] returns.
const KeyPrefix = "manifest/"

// FromObjects returns the stored manifest of image id as a Source.
func FromObjects(o thaw.Objects, id thaw.ImageID) Source {
	return objectSource{objects: o, key: Key(id)}
}

type objectSource struct {
	objects thaw.Objects
	key     string
}

func (s objectSource) ReadAt(ctx context.Context, off int64, n int) ([]byte, error) {
	return s.objects.ReadObject(ctx, s.key, off, n)
}

// Bytes is a manifest in memory as a Source.
type Bytes []byte

// ReadAt returns up to n bytes from offset off.
func (b Bytes) ReadAt(_ context.Context, off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off >= int64(len(b)) {
		return nil, nil
	}
	return b[off:][:min(n, len(b)-int(off))], nil
}
