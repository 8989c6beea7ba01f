// SPDX-License-Identifier: Apache-2.0

// Package seal turns the packed plain bytes of a chunk into the sealed bytes
// that stores and caches hold, and back. It knows ciphers, key derivation and
// naming; it knows nothing of where chunks live or what a manifest means, and
// does no I/O. It is the only package of thaw that imports a cipher for chunks.
//
// Sealing is convergent: the key of a chunk follows from its bytes and a secret
// salt, so equal bytes under an equal salt make the same sealed bytes and the
// same name, and are stored once, while whoever lacks the salt can neither open
// a chunk nor test a guess of its content against the store. The format, the
// reasons and what it does not hide are in docs/format/seal.md.
//
// All functions are safe for concurrent use and keep no state.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"thaw.dev/thaw"
)

// MinMasterBytes is the least length of the master secret from which salts are
// derived: the output size of the hash below, so that guessing the master is no
// easier than guessing a salt.
const MinMasterBytes = sha256.Size

// Salt is the secret of one domain in one root. Who holds it can test whether
// the store has a chunk of given content, so it stays with image/ingest.
type Salt [sha256.Size]byte

// Key opens one chunk, and nothing else.
type Key [sha256.Size]byte

// saltLabel separates salts from any other use of the same master secret and
// carries the version of this format.
const saltLabel = "thaw/seal/v1/salt"

// DeriveSalt returns the salt of domain d in root r. Different (d, r) pairs
// have unrelated salts: each part is preceded by its length, so no two pairs
// have the same encoding. It panics if master is shorter than
// [MinMasterBytes]: that is a missing secret, and chunks sealed under a
// guessable salt would be readable by anyone for as long as they are stored.
func DeriveSalt(master []byte, d thaw.Domain, r thaw.RootID) Salt {
	if len(master) < MinMasterBytes {
		panic("seal: the master secret is shorter than 32 bytes")
	}
	msg := appendField(nil, saltLabel)
	msg = appendField(msg, string(d))
	msg = appendField(msg, string(r))
	return Salt(mac(master, msg))
}

func appendField(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

func mac(key, msg []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(msg)
	return h.Sum(nil)
}

// Seal seals the packed bytes of a chunk (the output of chunk.Pack) and returns
// them with their name and the key that opens them. What it returns is a pure
// function of salt and packed, which it does not modify. The sealed bytes
// overwrite dst where that has room, else they are in a new slice; dst and
// packed must not overlap.
func Seal(dst []byte, salt Salt, packed []byte) (thaw.NamedChunk, Key) {
	sealed, key := Unnamed(dst, salt, packed)
	return sealed.Named(), key
}

// Unnamed is [Seal] for a chunk that another process names.
func Unnamed(dst []byte, salt Salt, packed []byte) (thaw.SealedChunk, Key) {
	key := Key(mac(salt[:], packed))
	sealed := thaw.SealedChunk(slices.Grow(dst[:0], len(packed))[:len(packed)])
	keystream(key).XORKeyStream(sealed, packed)
	return sealed, key
}

// Open appends the packed bytes of sealed to dst and returns the longer slice;
// dst and sealed must not overlap. It can't fail, and checks nothing: the
// caller guarantees that sealed was checked against its name, as
// [thaw.ChunkSource] promises, and that name and key stand together in an
// authenticated manifest. With a wrong key the result is noise.
func Open(key Key, sealed thaw.SealedChunk, dst []byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, len(sealed))[:n+len(sealed)]
	keystream(key).XORKeyStream(dst[n:], sealed)
	return dst
}

// keystream is AES-256 in counter mode from an all-zero counter block. A fixed
// IV is safe because a key follows from the plaintext: no key ever meets two
// different plaintexts.
func keystream(key Key) cipher.Stream {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only a wrong key length fails, and Key has the right one
	}
	return cipher.NewCTR(block, make([]byte, aes.BlockSize))
}
