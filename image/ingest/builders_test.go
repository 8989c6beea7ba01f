// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"io"
	"os/exec"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/klauspost/compress/zstd"

	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// TestBuilders compares with umoci what builders beside docker lay out.
func TestBuilders(t *testing.T) {
	for name, tars := range ingesttest.Builders(t) {
		t.Run(name, func(t *testing.T) { compareWithUmoci(t, tars) })
	}
}

// TestLazyFormats has the layers of an image written anew by the tools that
// make them fit for lazy pulling. They are tars that any reader can read, in
// many frames with a table of contents behind; the tree is that of the tar that
// the tool's own reader makes of them.
func TestLazyFormats(t *testing.T) {
	forms := map[string]struct {
		mediaType string
		options   []estargz.Option
	}{
		"estargz":      {"application/vnd.oci.image.layer.v1.tar+gzip", nil},
		"small chunks": {"application/vnd.oci.image.layer.v1.tar+gzip", []estargz.Option{estargz.WithChunkSize(4096), estargz.WithCompressionLevel(1)}},
		"prioritized":  {"application/vnd.oci.image.layer.v1.tar+gzip", []estargz.Option{estargz.WithPrioritizedFiles([]string{"usr/size4097", "usr/bin/"}), estargz.WithAllowPrioritizeNotFound(new([]string))}},
		"zstd:chunked": {"application/vnd.oci.image.layer.v1.tar+zstd", []estargz.Option{estargz.WithCompression(chunkedZstd{
			&zstdchunked.Compressor{CompressionLevel: zstd.SpeedDefault}, &zstdchunked.Decompressor{}})}},
	}
	tars := append(ingesttest.Cases(t)["sizes"], ingesttest.Cases(t)["hard links"]...)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			var blobs, plain []testkit.Blob
			for _, data := range tars {
				built, err := estargz.Build(io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), form.options...)
				if err != nil {
					t.Fatal(err)
				}
				stored, err := io.ReadAll(built)
				if err != nil {
					t.Fatal(err)
				}
				if err := built.Close(); err != nil {
					t.Fatal(err)
				}
				blob := testkit.Blob{MediaType: form.mediaType, Digest: testkit.Digest(stored), DiffID: built.DiffID().String(), Data: stored}
				blobs = append(blobs, blob)
				plain = append(plain, testkit.PlainLayer(inflate(t, stored)))
			}
			want := umoci(t, plain...)
			w := newWorld(t)
			r := w.mustRun(t, w.options(), private(blobs...)...)
			got := w.mounted(t, r.Image)
			forgetUnsaid(got, want)
			report(t, ingesttest.Diff(got, want, added(want)))
		})
	}
}

// chunkedZstd is zstd:chunked in both directions, as estargz wants it.
type chunkedZstd struct {
	*zstdchunked.Compressor
	*zstdchunked.Decompressor
}

// inflate is another reader than ingest's: the tools that everybody has.
func inflate(t *testing.T, stored []byte) []byte {
	t.Helper()
	tool := "zstd"
	if bytes.HasPrefix(stored, []byte{0x1f, 0x8b}) {
		tool = "gzip"
	}
	testkit.RequireTool(t, tool)
	cmd := exec.CommandContext(t.Context(), tool, "-dc")
	cmd.Stdin = bytes.NewReader(stored)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return out
}
