// SPDX-License-Identifier: Apache-2.0

package stripe

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"

	"thaw.dev/thaw"
)

// vectors is testdata/vectors/stripe.json: what any implementation of
// docs/format/stripe.md must make and refuse. Another implementation made it.
type vectors struct {
	Good []struct {
		Why          string
		Chunk        string // hexadecimal, as all bytes here
		Data, Parity int
		Stripes      []string // with headers, by index
	}
	Bad []struct{ Why, Value string }
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors/stripe.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil || len(v.Good) == 0 || len(v.Bad) == 0 {
		t.Fatalf("%d good and %d bad vectors, %v", len(v.Good), len(v.Bad), err)
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func coder(t testing.TB, l Layout) *Coder {
	t.Helper()
	c, err := NewCoder(l)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGoodVectors(t *testing.T) {
	for _, v := range readVectors(t).Good {
		chunk := unhex(t, v.Chunk)
		layout := Layout{v.Data, v.Parity}
		stripes, err := coder(t, layout).Split(chunk)
		if err != nil || len(stripes) != len(v.Stripes) {
			t.Fatalf("%s: %d stripes, %v", v.Why, len(stripes), err)
		}
		for i, payload := range stripes {
			want := unhex(t, v.Stripes[i])
			h := Header{layout, i, len(chunk)}
			if got := append(h.Append(nil), payload...); !bytes.Equal(got, want) {
				t.Errorf("%s: stripe %d is %x, not %x", v.Why, i, got, want)
			}
			if got, err := ParseHeader(want, len(want)); err != nil || got != h {
				t.Errorf("%s: stripe %d parses as %+v, %v", v.Why, i, got, err)
			}
		}
	}
}

func TestBadVectors(t *testing.T) {
	for _, v := range readVectors(t).Bad {
		value := unhex(t, v.Value)
		if h, err := ParseHeader(value, len(value)); thaw.KindOf(err) != thaw.Corrupt {
			t.Errorf("%s: parses as %+v, %v", v.Why, h, err)
		}
	}
}

// TestAnyStripeMayBeMissing joins chunks of many lengths without each of their
// data stripes.
func TestAnyStripeMayBeMissing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, layout := range []Layout{{4, 1}, {1, 1}, {2, 1}, {16, 1}} {
		c := coder(t, layout)
		for _, n := range []int{1, 2, 3, 4, 5, 63, 4096, 65_537, thaw.MaxChunkBytes, MaxChunkBytes} {
			chunk := make(thaw.SealedChunk, n)
			for i := range chunk {
				chunk[i] = byte(r.Uint32())
			}
			stripes, err := c.Split(chunk)
			if err != nil {
				t.Fatal(err)
			}
			for missing := range layout.Data {
				data := bytes.Join(stripes[:layout.Data], nil)
				clear(data[missing*len(stripes[0]) : (missing+1)*len(stripes[0])])
				data[missing*len(stripes[0])] = 0x55 // what stands there does not matter
				if err := c.Restore(data, missing, stripes[layout.Data]); err != nil || !bytes.Equal(data[:n], chunk) {
					t.Fatalf("%+v, %d bytes: wrong without stripe %d, %v", layout, n, missing, err)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, l := range []Layout{{0, 1}, {17, 1}, {4, 2}, {4, -1}, {-1, 0}} {
		if _, err := NewCoder(l); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for _, n := range []int{0, MaxChunkBytes + 1} {
		if _, err := coder(t, Layout{4, 1}).Split(make([]byte, n)); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("split %d bytes: %v", n, err)
		}
	}
	for name, err := range map[string]error{
		"no parity in the layout": coder(t, Layout{4, 0}).Restore(make([]byte, 16), 0, make([]byte, 4)),
		"lengths that differ":     coder(t, Layout{4, 1}).Restore(make([]byte, 15), 0, make([]byte, 4)),
		"no such stripe":          coder(t, Layout{4, 1}).Restore(make([]byte, 16), 4, make([]byte, 4)),
	} {
		if thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseHeader: whatever a server sends is refused, or is exactly what
// Append makes and no longer than the bound.
func FuzzParseHeader(f *testing.F) {
	v := readVectors(f)
	for _, g := range v.Good {
		f.Add(unhex(f, g.Stripes[0]))
	}
	for _, b := range v.Bad {
		f.Add(unhex(f, b.Value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		h, err := ParseHeader(value, len(value))
		if err != nil {
			if thaw.KindOf(err) != thaw.Corrupt {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(h.Append(nil), value[:HeaderBytes]) {
			t.Fatalf("%x parses as %+v", value[:HeaderBytes], h)
		}
		if n := h.StripeBytes(h.ChunkBytes); n != len(value)-HeaderBytes || n*h.Data < h.ChunkBytes || n > MaxChunkBytes {
			t.Fatalf("%+v with stripes of %d bytes", h, n)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	c := coder(b, Layout{4, 1})
	chunk := make(thaw.SealedChunk, thaw.MaxChunkBytes)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := c.Split(chunk); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRestore(b *testing.B) {
	c := coder(b, Layout{4, 1})
	chunk := make(thaw.SealedChunk, thaw.MaxChunkBytes)
	parity := make([]byte, len(chunk)/4)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if err := c.Restore(chunk, 1, parity); err != nil {
			b.Fatal(err)
		}
	}
}
