// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"thaw.dev/thaw"
)

// Layer is one layer of a container image.
type Layer struct {
	Digest    string // of the bytes as stored: "sha256:..." or "sha512:..."
	DiffID    string // of the bytes uncompressed
	MediaType string // informative: the bytes themselves say how they are compressed
	Bytes     int64  // as stored; 0 if unknown

	// Public says that the layer is published: its files are sealed in the
	// public domain and shared with every tenant.
	Public bool

	// Kept says that this host keeps the layer, and has checked its bytes when they
	// came: where they are not what Digest says now, that is [thaw.Lost].
	Kept bool

	// Open returns the layer as stored, from its first byte; it may be called
	// more than once. The reader need not verify anything. It is closed when
	// ctx ends, also while a Read runs, which must then return soon. Errors keep
	// their kind; without one they are [thaw.Unavailable].
	Open func(ctx context.Context) (io.ReadCloser, error)
}

func checkLayers(layers []Layer, limit int64) error {
	var plain int64
	for i, l := range layers {
		if l.Open == nil {
			return thaw.Errorf("", thaw.Invalid, "layer %d can't be opened", i)
		}
		if newHash(l.Digest) == nil || newHash(l.DiffID) == nil {
			return thaw.Errorf("", thaw.Invalid, "layer %d has the digests %.100q and %.100q, which are not sha256 or sha512", i, l.Digest, l.DiffID)
		}
		if l.isPlain() {
			if plain += max(l.Bytes, 0); plain > limit {
				return l.tooLarge(limit)
			}
		}
	}
	return nil
}

// isPlain reports whether the layer is stored uncompressed: then, and only
// then, its two digests are of the same bytes.
func (l Layer) isPlain() bool { return l.Digest == l.DiffID }

// tooLarge is in Lambda's words, as those who deploy to it have seen them. The
// layer is the one that goes beyond the limit, with those read before it.
func (l Layer) tooLarge(limit int64) error {
	const gib = 1 << 30
	size := fmt.Sprintf("%d byte", limit)
	if limit%gib == 0 {
		size = fmt.Sprintf("%d GiB", limit/gib)
	}
	return thaw.Errorf("layer "+l.Digest, thaw.TooLarge, "Uncompressed container image size exceeds %s limit", size)
}

// damaged says that the bytes as stored are not what Digest says.
func (l Layer) damaged(format string, args ...any) error {
	if l.Kept {
		return thaw.Errorf("layer "+l.Digest, thaw.Lost, format, args...)
	}
	return l.corrupt(format, args...)
}

func (l Layer) corrupt(format string, args ...any) error {
	return thaw.Errorf("layer "+l.Digest, thaw.Corrupt, format, args...)
}

// newHash returns the hash that a digest names, or nil if it is none that we
// know or not of that hash's length.
func newHash(digest string) hash.Hash {
	algorithm, sum, _ := strings.Cut(digest, ":")
	var h hash.Hash
	switch algorithm {
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	default:
		return nil
	}
	if b, err := hex.DecodeString(sum); err != nil || len(b) != h.Size() || strings.ToLower(sum) != sum {
		return nil
	}
	return h
}

// matches reports whether h has seen the bytes that digest is of.
func matches(h hash.Hash, digest string) bool {
	_, sum, _ := strings.Cut(digest, ":")
	return hex.EncodeToString(h.Sum(nil)) == sum
}
