// SPDX-License-Identifier: Apache-2.0

// Package ingesttest lets tests see the image that an ingest made: it puts the
// sealed chunks together again without any of the read path, mounts the result
// and compares trees of files.
package ingesttest

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/chunk"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/format/seal"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/internal/testkit"
)

// Store is where an ingest put an image.
type Store interface {
	thaw.ChunkSource
	thaw.Objects
}

// Layer returns a blob as a layer to ingest.
func Layer(b testkit.Blob, public bool) ingest.Layer {
	return ingest.Layer{
		Digest: b.Digest, DiffID: b.DiffID, MediaType: b.MediaType, Bytes: int64(len(b.Data)), Public: public,
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Data)), nil },
	}
}

// Open opens the manifest of an image with its keys.
func Open(t testing.TB, s Store, keys thaw.KeyWrapper, id thaw.ImageID) *manifest.Reader {
	t.Helper()
	r, err := manifest.Open(t.Context(), manifest.FromObjects(s, id), id, func(ctx context.Context, h manifest.Head) (manifest.Cipher, error) {
		dek, err := keys.Unwrap(ctx, h.Tenant, h.WrappedKey, h.WrapContext())
		if err != nil {
			return nil, err
		}
		return seal.NewTableCipher([32]byte(dek)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Materialize writes the whole image to a sparse file and returns its path.
func Materialize(t testing.TB, s Store, keys thaw.KeyWrapper, id thaw.ImageID) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.erofs")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := Open(t, s, keys, id)
	if err := f.Truncate(m.Head().ImageBytes); err != nil {
		t.Fatal(err)
	}
	var packed, pages []byte
	for c, err := range m.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Name.IsZero() {
			continue
		}
		sealed, err := s.Get(t.Context(), c.Name)
		if err != nil {
			t.Fatal(err)
		}
		packed = seal.Open(seal.Key(c.Key), sealed, packed[:0])
		pages, err = chunk.Unpack(pages[:0], packed, int(c.Blocks)*thaw.BlockBytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(pages, int64(c.Block)*thaw.BlockBytes); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// Mount mounts an image file read-only until the end of the test and returns
// where. It needs root.
func Mount(t testing.TB, path string) string {
	t.Helper()
	testkit.RequireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount(path, dir, "erofs", unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}
