// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"thaw.dev/thaw"
)

func TestPackedChunksAreWholeBlocks(t *testing.T) {
	noise := make([]byte, 64*thaw.BlockBytes)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for name, plain := range map[string][]byte{
		"zeros":     make([]byte, thaw.MaxChunkBytes),
		"text":      bytes.Repeat([]byte("module.exports = require(7);\n"), 5000)[:32*thaw.BlockBytes],
		"noise":     noise,
		"one block": noise[:thaw.BlockBytes],
	} {
		b := encodePacked(plain)
		if compressed := b[0] == packedLZ4; compressed && (len(b)%thaw.BlockBytes != 0 || len(b) >= len(plain)) || !compressed && len(b) != 1+len(plain) {
			t.Errorf("%s: %d bytes are %d of kind %d", name, len(plain), len(b), b[0])
		}
		if got, err := decodePacked(b, len(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %v, or other bytes", name, err)
		}
		for _, wrong := range []int{len(plain) - thaw.BlockBytes, len(plain) + thaw.BlockBytes} {
			if _, err := decodePacked(b, wrong); thaw.KindOf(err) != thaw.Corrupt {
				t.Errorf("%s as %d bytes: %v", name, wrong, err)
			}
		}
	}
}

func FuzzDecodePacked(f *testing.F) {
	f.Add(encodePacked(make([]byte, 2*thaw.BlockBytes)))
	f.Add([]byte{packedLZ4, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := decodePacked(b, 2*thaw.BlockBytes)
		if (err == nil) != (len(plain) == 2*thaw.BlockBytes) || err != nil && thaw.KindOf(err) != thaw.Corrupt {
			t.Fatalf("%d bytes, %v", len(plain), err)
		}
	})
}
