// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Epoch is the time of every entry that a [Tar] is not told another time of.
var Epoch = time.Unix(1_700_000_000, 0)

// Tar builds the tar of a layer, entry by entry. Its methods end the test on
// failure and return the Tar, so that calls can be chained.
type Tar struct {
	t   testing.TB
	buf bytes.Buffer
	w   *tar.Writer
}

// NewTar returns an empty tar.
func NewTar(t testing.TB) *Tar {
	b := &Tar{t: t}
	b.w = tar.NewWriter(&b.buf)
	return b
}

// Add appends an entry as h says it, with content; h.Size is set from content
// and h.ModTime to [Epoch] if it is zero. No check is made of what h says.
func (b *Tar) Add(h tar.Header, content string) *Tar {
	b.t.Helper()
	if h.ModTime.IsZero() {
		h.ModTime = Epoch
	}
	h.Size = int64(len(content))
	if h.ModTime.Nanosecond() != 0 {
		h.Format = tar.FormatPAX
	}
	if err := b.w.WriteHeader(&h); err != nil {
		b.t.Fatalf("entry %q: %v", h.Name, err)
	}
	if _, err := io.WriteString(b.w, content); err != nil {
		b.t.Fatalf("entry %q: %v", h.Name, err)
	}
	return b
}

// Dir appends a directory.
func (b *Tar) Dir(name string, mode int64) *Tar {
	b.t.Helper()
	return b.Add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, "")
}

// File appends a regular file of mode 0644.
func (b *Tar) File(name, content string) *Tar {
	b.t.Helper()
	return b.Add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content)
}

// Symlink appends a symbolic link.
func (b *Tar) Symlink(name, target string) *Tar {
	b.t.Helper()
	return b.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "")
}

// Fifo adds a named pipe.
func (b *Tar) Fifo(name string) *Tar {
	b.t.Helper()
	return b.Add(tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o644}, "")
}

// Link appends a hard link.
func (b *Tar) Link(name, target string) *Tar {
	b.t.Helper()
	return b.Add(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, "")
}

// Whiteout appends the OCI whiteout that deletes name from lower layers.
func (b *Tar) Whiteout(name string) *Tar {
	b.t.Helper()
	dir, base := filepath.Split(name)
	return b.Add(tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + base}, "")
}

// Opaque appends the whiteout of all that lower layers have in dir.
func (b *Tar) Opaque(dir string) *Tar {
	b.t.Helper()
	return b.Add(tar.Header{Typeflag: tar.TypeReg, Name: dir + "/.wh..wh..opq"}, "")
}

// Bytes ends the tar and returns it.
func (b *Tar) Bytes() []byte {
	b.t.Helper()
	if err := b.w.Close(); err != nil {
		b.t.Fatal(err)
	}
	return b.buf.Bytes()
}

// Blob is a layer as a registry has it.
type Blob struct {
	MediaType string
	Digest    string // of Data
	DiffID    string // of what Data decompresses to
	Data      []byte
}

const layerType = "application/vnd.oci.image.layer.v1.tar"

// PlainLayer returns a tar as an uncompressed layer.
func PlainLayer(data []byte) Blob {
	return Blob{MediaType: layerType, Digest: Digest(data), DiffID: Digest(data), Data: data}
}

// GzipLayer returns a tar as a gzipped layer.
func GzipLayer(t testing.TB, data []byte) Blob {
	t.Helper()
	var buf bytes.Buffer
	// The least effort: under the race detector the rest is most of a test's time.
	w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return Blob{MediaType: layerType + "+gzip", Digest: Digest(buf.Bytes()), DiffID: Digest(data), Data: buf.Bytes()}
}

// ZstdLayer returns a tar as a layer compressed with zstd.
func ZstdLayer(t testing.TB, data []byte) Blob {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := w.EncodeAll(data, nil)
	return Blob{MediaType: layerType + "+zstd", Digest: Digest(packed), DiffID: Digest(data), Data: packed}
}

// Digest returns the digest of data as OCI writes it.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// WriteLayout writes an OCI image layout of one image with these layers, bottom
// first, to directory dir, which must not exist or be empty.
func WriteLayout(t testing.TB, dir, tag string, layers ...Blob) {
	t.Helper()
	WriteLayoutOf(t, dir, tag, map[string]any{}, layers...)
}

// WriteLayoutOf is WriteLayout of an image with that configuration: the value of
// config in the OCI image config.
func WriteLayoutOf(t testing.TB, dir, tag string, settings map[string]any, layers ...Blob) {
	t.Helper()
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	put := func(mediaType string, data []byte) descriptor {
		d := Digest(data)
		writeFile(t, filepath.Join(dir, "blobs", "sha256", d[len("sha256:"):]), data)
		return descriptor{MediaType: mediaType, Digest: d, Size: len(data)}
	}
	marshal := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	diffIDs, descriptors := []string{}, []descriptor{}
	for _, l := range layers {
		diffIDs = append(diffIDs, l.DiffID)
		descriptors = append(descriptors, put(l.MediaType, l.Data))
	}
	config := put("application/vnd.oci.image.config.v1+json", marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": settings,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}))
	manifest := put("application/vnd.oci.image.manifest.v1+json", marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": descriptors,
	}))
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
	writeFile(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	writeFile(t, filepath.Join(dir, "index.json"), marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}}))
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
