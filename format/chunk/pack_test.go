// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

// pages draws the pages of a chunk whose blocks are used to any extent, with a
// liking for empty and full ones.
func pages() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		b := make([]byte, rapid.IntRange(0, MaxBlocks).Draw(t, "blocks")*thaw.BlockBytes)
		for i := 0; i < len(b); i += thaw.BlockBytes {
			used := rapid.OneOf(rapid.Just(0), rapid.Just(thaw.BlockBytes), rapid.IntRange(0, thaw.BlockBytes)).Draw(t, "used")
			fill := rapid.Byte().Draw(t, "fill")
			for j := range used {
				b[i+j] = fill
			}
			if used > 0 && rapid.Bool().Draw(t, "ends with one bit") {
				b[i+used-1] = 0x80
			}
		}
		return b
	})
}

func TestPackRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := pages().Draw(t, "pages")
		before := bytes.Clone(plain)
		packed := Pack([]byte("before"), plain)
		if !bytes.HasPrefix(packed, []byte("before")) || !bytes.Equal(plain, before) {
			t.Fatal("Pack changed what it was given")
		}
		packed = packed[len("before"):]
		if len(packed) > MaxPackedBytes {
			t.Fatalf("%d packed bytes, more than MaxPackedBytes", len(packed))
		}
		got, err := Unpack([]byte("kept"), packed, len(plain))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, append([]byte("kept"), plain...)) {
			t.Fatal("Unpack gave other pages")
		}
		for _, other := range []int{len(plain) - thaw.BlockBytes, len(plain) + thaw.BlockBytes} {
			if _, err := Unpack(nil, packed, other); thaw.KindOf(err) != thaw.Corrupt {
				t.Fatalf("Unpack as %d bytes: %v", other, err)
			}
		}
	})
}

// TestUnpackReusesCapacity guards against zeros being assumed where the
// caller's buffer has old bytes.
func TestUnpackReusesCapacity(t *testing.T) {
	plain := make([]byte, 3*thaw.BlockBytes)
	plain[0], plain[thaw.BlockBytes+9] = 1, 2
	dirty := bytes.Repeat([]byte{0xee}, 4*thaw.BlockBytes)
	got, err := Unpack(dirty[:0], Pack(nil, plain), len(plain))
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("Unpack into a used buffer: %v", err)
	}
}

// TestPackElides pins what elision is for: the bytes of a packed chunk.
func TestPackElides(t *testing.T) {
	for _, c := range []struct {
		name         string
		plain        []byte
		header, body int
	}{
		{"nothing", nil, 1, 0},
		{"a full chunk", bytes.Repeat([]byte{1}, thaw.MaxChunkBytes), 2, thaw.MaxChunkBytes},
		{"zeros", make([]byte, thaw.MaxChunkBytes), 1 + 2*MaxBlocks, 0},
		{"one short file", append([]byte("x"), make([]byte, thaw.BlockBytes-1)...), 3, 1},
	} {
		if got := len(Pack(nil, c.plain)); got != c.header+c.body {
			t.Errorf("%s: %d packed bytes, want %d of header and %d of content", c.name, got, c.header, c.body)
		}
	}
	worst := bytes.Repeat(append(bytes.Repeat([]byte{1}, thaw.BlockBytes-1), 0), MaxBlocks)
	if got := len(Pack(nil, worst)); got > MaxPackedBytes {
		t.Errorf("blocks that each lack one byte: %d packed bytes, more than %d", got, MaxPackedBytes)
	}
}

func TestPackPanicsOnWhatIsNoChunk(t *testing.T) {
	for _, n := range []int{1, thaw.BlockBytes - 1, thaw.MaxChunkBytes + thaw.BlockBytes} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Pack of %d bytes returned", n)
				}
			}()
			Pack(nil, make([]byte, n))
		}()
	}
}

func TestIsZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := make([]byte, rapid.IntRange(0, 3*thaw.BlockBytes).Draw(t, "length"))
		if !IsZero(b) {
			t.Fatalf("%d zeros are not zero", len(b))
		}
		if len(b) > 0 {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = 1
			if IsZero(b) {
				t.Fatalf("%d bytes with a one are zero", len(b))
			}
		}
	})
}

// FuzzUnpack: any bytes either are the one packed form of some pages or are
// refused, and never yield more than was asked for.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{1, 0, 1, 'a'}, 1)
	f.Add([]byte{1, 64}, 64)
	f.Add([]byte{1, 1, 0}, 2)
	f.Add([]byte{1}, 0)
	f.Add([]byte{1, 0x80, 0}, 1)
	for _, v := range packVectors(f, "bad") {
		f.Add(v.packed, v.plainBytes/thaw.BlockBytes)
	}
	f.Fuzz(func(t *testing.T, packed []byte, blocks int) {
		plain, err := Unpack(nil, packed, blocks*thaw.BlockBytes)
		if err != nil {
			if thaw.KindOf(err) != thaw.Corrupt || len(plain) != 0 {
				t.Fatalf("%d bytes and %v", len(plain), err)
			}
			return
		}
		if len(plain) != blocks*thaw.BlockBytes {
			t.Fatalf("%d bytes instead of %d blocks", len(plain), blocks)
		}
		if again := Pack(nil, plain); !bytes.Equal(again, packed) {
			t.Fatalf("two packed forms of the same pages: %x and %x", packed, again)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	full := bytes.Repeat([]byte{1}, thaw.MaxChunkBytes)
	small := make([]byte, thaw.MaxChunkBytes)
	for i := 0; i < len(small); i += thaw.BlockBytes {
		copy(small[i:], full[:1000])
	}
	for _, c := range []struct {
		name  string
		plain []byte
	}{{"full", full}, {"small-files", small}, {"zeros", make([]byte, thaw.MaxChunkBytes)}} {
		packed := Pack(nil, c.plain)
		dst := make([]byte, 0, MaxPackedBytes)
		b.Run("pack/"+c.name, func(b *testing.B) {
			b.SetBytes(thaw.MaxChunkBytes)
			for b.Loop() {
				Pack(dst, c.plain)
			}
		})
		b.Run("unpack/"+c.name, func(b *testing.B) {
			b.SetBytes(thaw.MaxChunkBytes)
			for b.Loop() {
				if _, err := Unpack(dst, packed, thaw.MaxChunkBytes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkIsZero(b *testing.B) {
	zeros := make([]byte, thaw.MaxChunkBytes)
	b.SetBytes(int64(len(zeros)))
	for b.Loop() {
		IsZero(zeros)
	}
}
