// SPDX-License-Identifier: Apache-2.0

package view_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/chunk"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/format/seal"
	"thaw.dev/thaw/read/view"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/tenant/keys"
)

const owner thaw.TenantID = "123456789012"

// image is a sealed image in a store, and its plain bytes.
type image struct {
	id      thaw.ImageID
	plain   []byte
	names   []thaw.ChunkName // by chunk; zero for zeros
	store   *store.Mem
	options view.Options
}

// counting counts the chunks asked of a source.
type counting struct {
	thaw.ChunkSource
	n atomic.Int64
}

func (c *counting) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	c.n.Add(1)
	return c.ChunkSource.Get(ctx, name)
}

// newImage seals an image of random chunks, a third of them zeros.
func newImage(t *testing.T, chunks int) (*image, *counting) {
	t.Helper()
	ctx := t.Context()
	local, err := keys.OpenLocal(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	img := &image{store: store.NewMem()}
	random := rand.New(rand.NewPCG(1, uint64(chunks)))
	salt := seal.DeriveSalt(local.SaltMaster(), thaw.TenantDomain(owner), "r1")
	var table []manifest.Chunk
	block := uint32(0)
	for range chunks {
		blocks := 1 + random.Uint32N(thaw.MaxChunkBytes/thaw.BlockBytes)
		plain := make([]byte, blocks*thaw.BlockBytes)
		c := manifest.Chunk{Block: block, Blocks: blocks}
		if random.IntN(3) > 0 {
			for i := range plain {
				plain[i] = byte(random.Uint32())
			}
			clear(plain[len(plain)-random.IntN(thaw.BlockBytes):])
			named, key := seal.Seal(nil, salt, chunk.Pack(nil, plain))
			c.Name, c.Key, c.SealedBytes = named.Name(), key, uint32(len(named.Sealed()))
			if err := img.store.Put(ctx, named); err != nil {
				t.Fatal(err)
			}
		}
		table = append(table, c)
		img.names = append(img.names, c.Name)
		img.plain = append(img.plain, plain...)
		block += blocks
	}
	head := manifest.Head{Tenant: owner, Root: "r1", Domains: []thaw.Domain{thaw.TenantDomain(owner)}, ImageBytes: int64(len(img.plain))}
	dek := seal.NewDEK()
	if head.WrappedKey, err = local.Wrap(ctx, owner, dek[:], head.WrapContext()); err != nil {
		t.Fatal(err)
	}
	data, id, err := manifest.Encode(head, table, seal.NewTableCipher(dek))
	if err != nil {
		t.Fatal(err)
	}
	img.id = id
	if err := img.store.PutObject(ctx, manifest.Key(id), data); err != nil {
		t.Fatal(err)
	}
	if err := img.store.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	source := &counting{ChunkSource: img.store}
	img.options = view.Options{Objects: img.store, Chunks: source, Keys: local, Plain: view.NewPlainCache(1 << 20)}
	return img, source
}

func (img *image) open(t *testing.T) *view.View {
	t.Helper()
	v, err := view.Open(t.Context(), owner, img.id, img.options)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestReadsEqualTheImage(t *testing.T) {
	img, _ := newImage(t, 60)
	v := img.open(t)
	if v.Size() != int64(len(img.plain)) {
		t.Fatalf("size %d, want %d", v.Size(), len(img.plain))
	}
	var readers sync.WaitGroup
	for reader := range 4 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(reader)))
			for range 100 {
				off := random.Int64N(v.Size())
				p := make([]byte, 1+random.IntN(1<<20))
				n, err := readAt(t, v, p, off)
				if want := min(int64(len(p)), v.Size()-off); int64(n) != want || (err != nil) != (want < int64(len(p))) {
					t.Errorf("read of %d at %d: %d, %v", len(p), off, n, err)
				}
				if !bytes.Equal(p[:n], img.plain[off:off+int64(n)]) {
					t.Errorf("read of %d at %d: wrong bytes", len(p), off)
				}
			}
		})
	}
	readers.Wait()
	if n, err := readAt(t, v, make([]byte, 1), v.Size()); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
}

func TestOneChunkIsFetchedOnce(t *testing.T) {
	img, source := newImage(t, 2)
	for img.names[0].IsZero() {
		t.Fatal("the seed made a chunk of zeros")
	}
	v := img.open(t)
	var readers sync.WaitGroup
	for i := range 64 {
		readers.Go(func() {
			if _, err := readAt(t, v, make([]byte, 512), int64(i)*8); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	if n := source.n.Load(); n != 1 {
		t.Errorf("the chunk was fetched %d times", n)
	}
}

func TestCorruptChunkGivesNoByte(t *testing.T) {
	img, _ := newImage(t, 8)
	v := img.open(t)
	for i, name := range img.names {
		if !name.IsZero() {
			img.store.Damage(name, thaw.SealedChunk("damaged"))
			t.Logf("chunk %d is damaged", i)
			break
		}
	}
	p := make([]byte, v.Size())
	for i := range p {
		p[i] = 0xa5
	}
	if n, err := readAt(t, v, p, 0); n != 0 || thaw.KindOf(err) != thaw.Corrupt {
		t.Errorf("read %d, %v; want none and corrupt", n, err)
	}
}

// readAt fills p from off, as io.ReaderAt does.
func readAt(t testing.TB, v *view.View, p []byte, off int64) (int, error) {
	pieces, err := v.Read(t.Context(), off, len(p))
	n := copy(p, bytes.Join(pieces, nil))
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func TestAnotherTenantIsDenied(t *testing.T) {
	img, _ := newImage(t, 3)
	if _, err := view.Open(t.Context(), "999999999999", img.id, img.options); thaw.KindOf(err) != thaw.Denied {
		t.Errorf("opened by another tenant: %v", err)
	}
}

func TestRecordingNotesFirstReadsInOrder(t *testing.T) {
	img, _ := newImage(t, 20)
	v := img.open(t)
	rec := v.Record()
	var want []uint32                                                         // the blocks of chunks that are not zeros
	for off := v.Size() - thaw.BlockBytes; off >= 0; off -= thaw.BlockBytes { // backwards
		if _, err := readAt(t, v, make([]byte, 1), off); err != nil {
			t.Fatal(err)
		}
		block := uint32(off / thaw.BlockBytes)
		index, name, end, err := v.ChunkAt(t.Context(), block)
		if err != nil || name != img.names[index] || end <= block {
			t.Fatalf("block %d is in chunk %d, %v, before %d: %v", block, index, name, end, err)
		}
		if !name.IsZero() {
			want = append(want, block)
		}
	}
	touches := rec.Stop()
	if len(touches) != len(want) {
		t.Fatalf("%d runs noted, %d read", len(touches), len(want))
	}
	for i, touch := range touches {
		if touch.Block != want[i] || touch.Blocks != 1 || (i > 0 && touch.At < touches[i-1].At) {
			t.Errorf("touch %d is %+v, want block %d", i, touch, want[i])
		}
	}
	if _, err := readAt(t, v, make([]byte, 1), 0); err != nil || len(rec.Stop()) != 0 {
		t.Errorf("a stopped recording went on (%v)", err)
	}
}

func TestRecordsAreBoundToImageAndPurpose(t *testing.T) {
	img, _ := newImage(t, 3)
	v := img.open(t)
	sealed := v.SealRecord([]byte("working set"), "a")
	if plain, err := img.open(t).OpenRecord(sealed, "a"); err != nil || string(plain) != "working set" {
		t.Errorf("opened %q, %v", plain, err)
	}
	other, _ := newImage(t, 4)
	for what, open := range map[string]func() ([]byte, error){
		"another purpose": func() ([]byte, error) { return v.OpenRecord(sealed, "b") },
		"another image":   func() ([]byte, error) { return other.open(t).OpenRecord(sealed, "a") },
		"a flipped bit": func() ([]byte, error) {
			return v.OpenRecord(append(sealed[:len(sealed)-1:len(sealed)-1], sealed[len(sealed)-1]^1), "a")
		},
		"nothing": func() ([]byte, error) { return v.OpenRecord(nil, "a") },
	} {
		if _, err := open(); thaw.KindOf(err) != thaw.Corrupt {
			t.Errorf("%s: %v, want corrupt", what, err)
		}
	}
}
