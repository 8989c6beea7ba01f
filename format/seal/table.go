// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"

	"thaw.dev/thaw"
)

// TableOverhead is by how many bytes a sealed table is longer than its plain
// form: the authentication tag.
const TableOverhead = 16

// TableCipher seals the key tables of one manifest with AES-256-GCM under the
// manifest's own data key. It is safe for concurrent use. The zero value is
// not usable; see [NewTableCipher].
type TableCipher struct{ aead cipher.AEAD }

// NewDEK returns a fresh random data key, to be used for exactly one manifest.
func NewDEK() [32]byte {
	var dek [32]byte
	_, _ = rand.Read(dek[:]) // never fails: it ends the program instead
	return dek
}

// NewTableCipher returns the cipher of the manifest whose data key is dek.
func NewTableCipher(dek [32]byte) *TableCipher {
	block, err := aes.NewCipher(dek[:])
	if err != nil {
		panic(err) // only a wrong key length fails
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only a cipher of another block size fails
	}
	return &TableCipher{aead: aead}
}

// Seal returns plain encrypted and authenticated together with aad, in a new
// slice [TableOverhead] bytes longer. The number is the nonce: under one data
// key no two calls may use the same number for different tables. A counter is
// safe because a data key serves one manifest only.
func (c *TableCipher) Seal(number uint64, plain, aad []byte) []byte {
	nonce := c.nonce(number)
	return c.aead.Seal(make([]byte, 0, len(plain)+TableOverhead), nonce[:], plain, aad)
}

// Open returns the plain form of what Seal made from the same number and aad,
// in a new slice. If anything differs the error is [thaw.Corrupt] and says no
// more: wrong key, wrong number, wrong aad and changed bytes look the same.
func (c *TableCipher) Open(number uint64, sealed, aad []byte) ([]byte, error) {
	nonce := c.nonce(number)
	plain, err := c.aead.Open(nil, nonce[:], sealed, aad)
	if err != nil {
		return nil, thaw.Errorf("open table", thaw.Corrupt, "it does not authenticate under this key")
	}
	return plain, nil
}

// nonce is the number, big-endian, after four zero bytes.
func (c *TableCipher) nonce(number uint64) (n [12]byte) {
	binary.BigEndian.PutUint64(n[4:], number)
	return n
}
