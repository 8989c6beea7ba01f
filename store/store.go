// SPDX-License-Identifier: Apache-2.0

// Package store keeps sealed chunks, and the small objects beside them, where
// they outlive the process: the origin of every read. It knows names, sealed
// bytes and durability; it knows no key, no plaintext and no tier above it.
//
// [Dir] is an origin in a directory, owned by one process; [Shared] is what
// other processes of the same machine may do with it meanwhile; [Mem] is an
// origin in memory with the same behaviour, for tests. All pass the suite of
// store/storetest, as any further origin must. The directory's layout is in
// docs/format/store.md.
//
// What is promised:
//   - A chunk is seen by nobody before a Sync has made it durable, and then
//     whole or not at all. After a crash at any moment everything that a Sync
//     acknowledged is there.
//   - Get returns bytes that have the name they were asked by, or an error.
//   - Corrupt chunks are reported and kept: repair is the operator's decision.
//
// Locks: Dir.syncing is taken before Dir.mu; nothing is written or read on
// disk while mu is held.
package store

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"thaw.dev/thaw"
)

// MaxChunkBytes bounds the sealed bytes of a chunk that a store takes or
// returns: the plain bytes and the header that packing adds, which is less
// than a block. It bounds what a reader allocates before it has verified
// anything.
const MaxChunkBytes = thaw.MaxChunkBytes + thaw.BlockBytes

const (
	maxKeyBytes     = 1024
	maxElementBytes = 255 // of a file's name, in every file system thaw runs on
)

// CheckKey reports whether key may name an object: elements of [a-z0-9.-]
// joined by slashes, none empty, "." or "..", at most 1024 bytes in all and
// 255 each. Its error is [thaw.Invalid].
func CheckKey(key string) error {
	if len(key) > maxKeyBytes {
		return thaw.Errorf("object key", thaw.Invalid, "it is longer than %d bytes", maxKeyBytes)
	}
	for element := range strings.SplitSeq(key, "/") {
		if element == "" || element == "." || element == ".." || len(element) > maxElementBytes {
			return thaw.Errorf("object key", thaw.Invalid, "%q has an element that is empty, dots or too long", key)
		}
		for _, c := range []byte(element) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
				return thaw.Errorf("object key", thaw.Invalid, "%q has other characters than a-z, 0-9, dot and hyphen", key)
			}
		}
	}
	return nil
}

// CheckChunk is the border through which chunks enter any store. That the bytes
// have their name is what the type says; they must be no longer than a chunk can
// be ([thaw.TooLarge]), and the zero value is [thaw.Invalid].
func CheckChunk(chunk thaw.NamedChunk) error {
	op := "store: put " + chunk.Name().String()
	if n := len(chunk.Sealed()); n > MaxChunkBytes {
		return thaw.Errorf(op, thaw.TooLarge, "%d bytes are more than a chunk can have", n)
	}
	if chunk.Name().IsZero() {
		return thaw.Errorf(op, thaw.Invalid, "it is no chunk")
	}
	return nil
}

// CheckRange is the border of ReadObject's arguments; its error is
// [thaw.Invalid].
func CheckRange(key string, off int64, n int) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if off < 0 || n < 0 {
		return thaw.Errorf("store: read "+key, thaw.Invalid, "the range %d+%d is negative", off, n)
	}
	return nil
}

func notFound(op string) error {
	return thaw.Errorf(op, thaw.NotFound, "it is not in the store")
}

// readError gives an error of reading one file its kind: a file that is not
// there is [thaw.NotFound].
func readError(op string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return thaw.Errorf(op, thaw.NotFound, "%w", err)
	}
	return diskError(op, err)
}

// diskError gives any other error of the file system its kind. What is missing
// then is a part of the store itself, which is [thaw.Lost].
func diskError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return thaw.Errorf(op, thaw.Lost, "a folder of the store is gone: %w", err)
	}
	return thaw.Errorf(op, thaw.KindOf(err), "%w", err)
}
