// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/seal"
)

var update = flag.Bool("update", false, "write the vectors anew; never for a version that is in use")

// sample is a head and n chunks, every third of zeros, that follow from n.
func sample(n int) (Head, []Chunk) {
	chunks := make([]Chunk, n)
	block := uint32(0)
	for i := range chunks {
		c := Chunk{Block: block, Blocks: uint32(1 + i*7%maxBlocks), Domain: uint8(i % 2)}
		if i%3 != 2 {
			c.Name = sha256.Sum256([]byte{byte(i), byte(i >> 8), 'n'})
			c.Key = sha256.Sum256([]byte{byte(i), byte(i >> 8), 'k'})
			c.SealedBytes = c.Blocks*thaw.BlockBytes - uint32(i%100)
		}
		block += c.Blocks
		chunks[i] = c
	}
	return Head{
		Tenant: "123456789012", Root: "r1", Domains: []thaw.Domain{"public", "tenant:123456789012"},
		ImageBytes: int64(block) * thaw.BlockBytes, MetaBytes: thaw.BlockBytes, Files: 3, Dirs: 2, Links: 1,
		LayerBytes: 1234, SourceDigest: "sha256:0123", WrappedKey: []byte("wrapped"),
	}, chunks
}

func fixedCipher() Cipher { return seal.NewTableCipher([32]byte{1, 2, 3}) }

func unwrapFixed(context.Context, Head) (Cipher, error) { return fixedCipher(), nil }

func encode(t testing.TB, n int) (Head, []Chunk, []byte, thaw.ImageID) {
	t.Helper()
	h, chunks := sample(n)
	data, id, err := Encode(h, chunks, fixedCipher())
	if err != nil {
		t.Fatal(err)
	}
	h.Chunks = n
	return h, chunks, data, id
}

func TestWhatIsEncodedIsRead(t *testing.T) {
	for _, n := range []int{1, 2, 255, 256, 257, 1000, PageChunks*PageChunks + 1} {
		h, chunks, data, id := encode(t, n)
		r, err := Open(t.Context(), Bytes(data), id, unwrapFixed)
		if err != nil {
			t.Fatalf("%d chunks: %v", n, err)
		}
		if !reflect.DeepEqual(r.Head(), h) {
			t.Errorf("%d chunks: head %+v, want %+v", n, r.Head(), h)
		}
		i := 0
		for c, err := range r.All(t.Context()) {
			if err != nil || c != chunks[i] {
				t.Fatalf("%d chunks: chunk %d is %+v, %v; want %+v", n, i, c, err, chunks[i])
			}
			i++
		}
		if i != n {
			t.Errorf("%d chunks: All gave %d", n, i)
		}
		for i := 0; i < n; i += 1 + n/97 {
			want := chunks[i]
			for _, block := range []uint32{want.Block, want.Block + want.Blocks - 1} {
				if c, at, err := r.ByBlock(t.Context(), block); err != nil || at != i || c != want {
					t.Fatalf("%d chunks: block %d is in chunk %d %+v, %v", n, block, at, c, err)
				}
			}
			if c, err := r.At(t.Context(), i); err != nil || c != want {
				t.Fatalf("%d chunks: At(%d) is %+v, %v", n, i, c, err)
			}
		}
		if err := r.Check(t.Context()); err != nil {
			t.Errorf("%d chunks: %v", n, err)
		}
	}
}

func TestNamesNeedNoKey(t *testing.T) {
	_, chunks, data, id := encode(t, 600)
	r, err := Open(t.Context(), Bytes(data), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []thaw.ChunkName
	for _, c := range chunks {
		if !c.Name.IsZero() {
			want = append(want, c.Name)
		}
	}
	for name, err := range r.Names(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, name)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
	if c, err := r.At(t.Context(), 0); err != nil || c.Key != [32]byte{} {
		t.Errorf("without a key a chunk has key %x, %v", c.Key, err)
	}
}

// readCounter counts the bytes read of a manifest.
type readCounter struct {
	Bytes
	n int
}

func (r *readCounter) ReadAt(ctx context.Context, off int64, n int) ([]byte, error) {
	b, err := r.Bytes.ReadAt(ctx, off, n)
	r.n += len(b)
	return b, err
}

func TestOpeningDoesNotGrowWithTheImage(t *testing.T) {
	var read []int
	for _, n := range []int{1000, 41_000} { // of 0.1 and of 10 GiB
		_, _, data, id := encode(t, n)
		src := &readCounter{Bytes: data}
		if _, err := Open(t.Context(), src, id, unwrapFixed); err != nil {
			t.Fatal(err)
		}
		read = append(read, src.n)
	}
	if read[1] > firstReadBytes || read[0] > firstReadBytes {
		t.Errorf("opening read %v bytes, at most %d", read, firstReadBytes)
	}
}

// TestEveryBitCounts: any change of a manifest is noticed, at the latest when
// the page that holds it is read, and never as a wrong chunk.
func TestEveryBitCounts(t *testing.T) {
	_, _, data, id := encode(t, 300)
	for at := range len(data) {
		bad := bytes.Clone(data)
		bad[at] ^= 1 << (at % 8)
		r, err := Open(t.Context(), Bytes(bad), id, unwrapFixed)
		if err == nil {
			err = r.Check(t.Context())
		}
		if thaw.KindOf(err) != thaw.Corrupt || err == nil {
			t.Fatalf("byte %d of %d changed: %v, want corrupt", at, len(data), err)
		}
	}
}

func TestWrongKeyIsDenied(t *testing.T) {
	_, _, data, id := encode(t, 10)
	_, err := Open(t.Context(), Bytes(data), id, func(context.Context, Head) (Cipher, error) {
		return seal.NewTableCipher([32]byte{9}), nil
	})
	if thaw.KindOf(err) != thaw.Denied {
		t.Errorf("opened with another key: %v", err)
	}
}

func TestEncodeRefusesWhatNoImageHas(t *testing.T) {
	for what, spoil := range map[string]func(*Head, []Chunk) []Chunk{
		"no chunk":               func(_ *Head, _ []Chunk) []Chunk { return nil },
		"a gap":                  func(_ *Head, c []Chunk) []Chunk { c[1].Block++; return c },
		"a chunk over the limit": func(_ *Head, c []Chunk) []Chunk { c[0].Blocks = maxBlocks + 1; return c },
		"an unknown domain":      func(_ *Head, c []Chunk) []Chunk { c[0].Domain = 2; return c },
		"zeros with a key":       func(_ *Head, c []Chunk) []Chunk { c[2].Key[0] = 1; return c },
		"a chunk of no bytes":    func(_ *Head, c []Chunk) []Chunk { c[0].SealedBytes = 0; return c },
		"another size":           func(h *Head, c []Chunk) []Chunk { h.ImageBytes += thaw.BlockBytes; return c },
		"no tenant":              func(h *Head, c []Chunk) []Chunk { h.Tenant = ""; return c },
		"no domain":              func(h *Head, c []Chunk) []Chunk { h.Domains = nil; return c },
	} {
		h, chunks := sample(5)
		chunks = spoil(&h, chunks)
		if _, _, err := Encode(h, chunks, fixedCipher()); thaw.KindOf(err) != thaw.Invalid || err == nil {
			t.Errorf("%s: %v, want invalid", what, err)
		}
	}
}

// TestVectors holds the layout to checked-in manifests. good-N.bin is
// sample(N) under the data key 01 02 03 00...; its name, less the length, is
// all there is to know, since sample follows from N.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		file string
		n    int
	}{{"good-1.bin", 1}, {"good-3.bin", 3}, {"good-257.bin", 257}} {
		path := filepath.Join("testdata", "vectors", v.file)
		_, _, data, id := encode(t, v.n)
		if *update {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		stored, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored, data) {
			t.Errorf("%s: Encode gives other bytes", v.file)
		}
		if _, err := Open(t.Context(), Bytes(stored), id, unwrapFixed); err != nil {
			t.Errorf("%s: %v", v.file, err)
		}
	}
}

// bad says how a vector is made from good-3.bin, and why it must be refused.
var bad = []struct {
	file, why string
	make      func(good []byte) []byte
}{
	{"bad-empty.bin", "there is no head", func([]byte) []byte { return nil }},
	{"bad-magic.bin", "it is no manifest", func(b []byte) []byte { b[0] = 'T'; return b }},
	{"bad-version.bin", "a version that this program does not know", func(b []byte) []byte { b[7] = 2; return b }},
	{"bad-head-length.bin", "the head claims 4 GiB, which must not be allocated", func(b []byte) []byte {
		copy(b[len(magic):], []byte{0xff, 0xff, 0xff, 0xff})
		return b
	}},
	{"bad-cut-head.bin", "it ends within its head", func(b []byte) []byte { return b[:40] }},
	{"bad-cut-page.bin", "it ends within its first page", func(b []byte) []byte { return b[:len(b)-1] }},
}

// TestBadVectors opens each under the id of its own bytes, as one who forges a
// manifest would have it.
func TestBadVectors(t *testing.T) {
	for _, v := range bad {
		path := filepath.Join("testdata", "vectors", v.file)
		if *update {
			_, _, good, _ := encode(t, 3)
			if err := os.WriteFile(path, v.make(good), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		stored, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := openForged(t.Context(), stored); thaw.KindOf(err) != thaw.Corrupt || err == nil {
			t.Errorf("%s (%s): %v, want corrupt", v.file, v.why, err)
		}
	}
}

// openForged opens bytes as a manifest under the id that fits them, if any.
func openForged(ctx context.Context, b []byte) error {
	id := thaw.ImageID(sha256.Sum256(b))
	if n, err := headLength(b); err == nil && n <= len(b) {
		id = sha256.Sum256(b[:n])
	}
	r, err := Open(ctx, Bytes(b), id, unwrapFixed)
	if err != nil {
		return err
	}
	return r.Check(ctx)
}

// FuzzOpen: no bytes make the reader panic or hang, and what is refused is
// corrupt or denied.
func FuzzOpen(f *testing.F) {
	_, _, good, _ := encode(f, 3)
	f.Add(good)
	for _, v := range bad {
		_, _, good, _ := encode(f, 3)
		f.Add(v.make(good))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := openForged(t.Context(), b); err != nil {
			if k := thaw.KindOf(err); k != thaw.Corrupt && k != thaw.Denied {
				t.Fatalf("%v: kind %v", err, k)
			}
		}
	})
}
