// SPDX-License-Identifier: Apache-2.0

// Package chunk knows how an image's address space is cut into chunks and how
// the pages of one chunk are packed before they are sealed. It knows offsets,
// sizes and zeros; it does not know names, keys, or where chunks live. All of
// it is pure: the same input gives the same bytes on every machine, and a
// change here changes the name of every chunk that is made afterwards. The
// page docs/format/chunk.md is the specification.
package chunk

import (
	"bytes"

	"thaw.dev/thaw"
)

// MaxBlocks is the number of blocks in the largest chunk.
const MaxBlocks = thaw.MaxChunkBytes / thaw.BlockBytes

// Extent is one chunk's place in an image's address space, in blocks of
// [thaw.BlockBytes].
type Extent struct {
	Block  uint32 // the first block
	Blocks uint32 // how many, 1 to MaxBlocks
	Domain uint8  // the caller's index of the domain that the chunk is sealed in
}

// End returns the first block after the extent.
func (e Extent) End() uint32 { return e.Block + e.Blocks }

// IsZero reports whether every byte of b is zero. Such a chunk is stored
// nowhere.
func IsZero(b []byte) bool {
	// Comparing the bytes with themselves, moved by one, uses the runtime's
	// vector comparison and stops at the first difference.
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}
