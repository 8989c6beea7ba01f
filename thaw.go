// SPDX-License-Identifier: Apache-2.0

// Package thaw holds the words of the project: the ids, the contracts that
// cross package or process boundaries, and the kinds of error. It does no I/O,
// starts no goroutine and imports the standard library only.
package thaw

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"regexp"
)

const (
	// BlockBytes is the size of a block: the unit of an image's address space
	// and of a page of the kernel's cache.
	BlockBytes = 4096

	// MaxChunkBytes bounds the plain bytes of one chunk. Larger chunks store
	// less metadata but a start fetches more that it never touches; 256 KiB is
	// the knee of both measurements (see docs/decisions/0001-chunk-size.md).
	MaxChunkBytes = 256 << 10

	// MaxImageBytes bounds the uncompressed size of an image, all layers
	// together: Lambda's limit of 10 GB.
	MaxImageBytes = 10 << 30
)

// The user and group that every function runs as, by number and by name, as
// seen inside. They are Lambda's. The home is a name only: no image needs it.
const (
	UserID   = 993
	GroupID  = 990
	UserName = "sbx_user1051"
	UserHome = "/home/sbx_user1051"
)

// ChunkName names a sealed chunk: the SHA-256 of the sealed bytes. The zero
// name means a chunk of zeros, which is stored nowhere.
type ChunkName [sha256.Size]byte

// SealedChunk is the encrypted form of a chunk, the only form that the store
// and the caches ever see.
type SealedChunk []byte

// NamedChunk is a sealed chunk together with its name. Only [SealedChunk.Named]
// makes one, so whoever is given one need not hash the bytes again; nobody may
// modify them. The zero value is no chunk.
type NamedChunk struct {
	name   ChunkName
	sealed SealedChunk
}

// Named names the chunk. It hashes the bytes and does not copy them.
func (c SealedChunk) Named() NamedChunk { return NamedChunk{NameOf(c), c} }

// Name returns the hash of the sealed bytes.
func (c NamedChunk) Name() ChunkName { return c.name }

// Sealed returns the sealed bytes.
func (c NamedChunk) Sealed() SealedChunk { return c.sealed }

// PlainChunk is the opened form of a chunk: a whole number of blocks, at most
// [MaxChunkBytes]. Only image/ingest and read/view hold one.
type PlainChunk []byte

// NameOf returns the name of sealed bytes.
func NameOf(sealed SealedChunk) ChunkName { return sha256.Sum256(sealed) }

// String returns the name as 64 lower-case hexadecimal digits.
func (n ChunkName) String() string { return hex.EncodeToString(n[:]) }

// IsZero reports whether n is the name of the chunk of zeros.
func (n ChunkName) IsZero() bool { return n == ChunkName{} }

// ParseChunkName is the inverse of [ChunkName.String]; its error is [Invalid].
func ParseChunkName(s string) (ChunkName, error) {
	var n ChunkName
	if err := parseHex(n[:], s); err != nil {
		return n, Errorf("parse chunk name", Invalid, "%q is not 64 hexadecimal digits", s)
	}
	return n, nil
}

// ImageID identifies an image: the SHA-256 of its manifest's head, which in
// turn authenticates every page of the manifest.
type ImageID [sha256.Size]byte

// String returns the id as 64 lower-case hexadecimal digits.
func (id ImageID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is unset.
func (id ImageID) IsZero() bool { return id == ImageID{} }

// MarshalText makes ids readable in JSON.
func (id ImageID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of [ImageID.MarshalText].
func (id *ImageID) UnmarshalText(text []byte) error {
	parsed, err := ParseImageID(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}

// ParseImageID is the inverse of [ImageID.String]; its error is [Invalid].
func ParseImageID(s string) (ImageID, error) {
	var id ImageID
	if err := parseHex(id[:], s); err != nil {
		return id, Errorf("parse image id", Invalid, "%q is not 64 hexadecimal digits", s)
	}
	return id, nil
}

func parseHex(dst []byte, s string) error {
	if len(s) != hex.EncodedLen(len(dst)) {
		return hex.ErrLength
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}

// TenantID is an account: 12 decimal digits, as in an ARN.
type TenantID string

var tenantPattern = regexp.MustCompile(`^[0-9]{12}$`)

// ParseTenantID checks that s is 12 decimal digits; its error is [Invalid].
func ParseTenantID(s string) (TenantID, error) {
	if !tenantPattern.MatchString(s) {
		return "", Errorf("parse tenant", Invalid, "%q is not an account id of 12 digits", s)
	}
	return TenantID(s), nil
}

// Domain says who may share chunks with whom: chunks of two domains never have
// the same name, whatever they hold.
type Domain string

// DomainPublic is the domain of chunks whose files all come from published
// layers. Every other chunk belongs to [TenantDomain] of its owner.
const DomainPublic Domain = "public"

// TenantDomain is the private domain of a tenant.
func TenantDomain(t TenantID) Domain { return Domain("tenant:" + string(t)) }

// RootID names a root: one generation of the chunk store, the unit of garbage
// collection. It is part of every salt, so two roots share no chunk name.
type RootID string

// ChunkSource returns sealed chunks. Implementations are safe for concurrent
// use.
type ChunkSource interface {
	// Get returns the whole chunk of that name. The implementation has checked
	// that the bytes hash to name; the caller must not modify them. Errors:
	// [NotFound] where no such chunk exists, [Corrupt] where the stored bytes
	// do not have that name, [Unavailable] where the store can't be reached.
	Get(ctx context.Context, name ChunkName) (SealedChunk, error)
}

// ChunkSink takes sealed chunks. Implementations are safe for concurrent use.
type ChunkSink interface {
	// Has reports whether a chunk of that name is stored durably.
	Has(ctx context.Context, name ChunkName) (bool, error)

	// Put stores the chunk if it is absent. The chunk is visible and durable
	// once a later Sync has returned; the caller may reuse its bytes after Put
	// returns. [TooLarge] is what no chunk can be, [Invalid] the zero value.
	Put(ctx context.Context, chunk NamedChunk) error

	// Sync makes every chunk put before it durable and visible, or fails.
	Sync(ctx context.Context) error
}

// ChunkInfo describes a stored chunk.
type ChunkInfo struct {
	Name  ChunkName
	Bytes int64
}

// ChunkLister lists what is stored, in no order, for checks and collection.
type ChunkLister interface {
	Chunks(ctx context.Context) iter.Seq2[ChunkInfo, error]
}

// Objects holds the small mutable things beside the chunks: manifests and
// working sets, by keys such as "manifest/<id>". Implementations are safe for
// concurrent use. A key is a slash-separated path of [a-z0-9.-] elements.
type Objects interface {
	// PutObject stores data under key, atomically and durably replacing what
	// was there.
	PutObject(ctx context.Context, key string, data []byte) error

	// ReadObject returns up to n bytes from offset off, fewer only at the
	// object's end; [NotFound] where key does not exist.
	ReadObject(ctx context.Context, key string, off int64, n int) ([]byte, error)

	// DeleteObject removes key; removing what is not there is no error.
	DeleteObject(ctx context.Context, key string) error

	// ListObjects lists the keys that begin with prefix, in no order.
	ListObjects(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// KeyWrapper wraps and unwraps data keys under a tenant's master key. The
// context binds a wrapped key to its use; unwrapping with another tenant or
// another context fails with [Denied].
type KeyWrapper interface {
	Wrap(ctx context.Context, tenant TenantID, key, context []byte) ([]byte, error)
	Unwrap(ctx context.Context, tenant TenantID, wrapped, context []byte) ([]byte, error)
}
