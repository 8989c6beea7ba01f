// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"thaw.dev/thaw/image/flatten"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// entry is one entry of a random layer.
type entry struct {
	header  tar.Header
	content string
}

// randomEntry is an entry of any kind under a name of which there are so few
// that entries meet.
func randomEntry(r *rand.Rand) entry {
	element := func() string { return string(rune('a' + r.IntN(4))) }
	name := func() string {
		s := element()
		for r.IntN(3) > 0 {
			s += "/" + element()
		}
		return s
	}
	target := func() string {
		switch r.IntN(4) {
		case 0:
			return "/" + name()
		case 1:
			return "../" + name()
		}
		return name()
	}
	e := entry{header: tar.Header{Name: name(), Mode: int64(r.IntN(0o10000)), Uid: r.IntN(3), Gid: r.IntN(3), ModTime: time.Unix(int64(r.IntN(1000)), int64(r.IntN(2))*1001)}}
	h := &e.header
	switch r.IntN(12) {
	case 0, 1, 2:
		h.Typeflag, e.content = tar.TypeReg, ingesttest.Noise(r.Uint64(), r.IntN(3)*r.IntN(6000))
		if r.IntN(10) == 0 {
			e.content = ingesttest.Noise(r.Uint64(), 300_000)
		}
	case 3, 4, 5:
		h.Typeflag = tar.TypeDir
		if r.IntN(2) == 0 {
			h.PAXRecords = ingesttest.Xattrs("user.x", fmt.Sprint(r.IntN(3)))
		}
	case 6, 7:
		h.Typeflag, h.Linkname = tar.TypeSymlink, target()
	case 8:
		h.Typeflag, h.Linkname = tar.TypeLink, name()
	case 9:
		h.Typeflag = tar.TypeFifo
	case 10:
		h.Typeflag, h.Name = tar.TypeReg, filepath.Join(filepath.Dir(h.Name), ".wh."+filepath.Base(h.Name))
	case 11:
		h.Typeflag, h.Name = tar.TypeReg, h.Name+"/.wh..wh..opq"
	}
	return e
}

func tarOf(t testing.TB, entries []entry) []byte {
	b := testkit.NewTar(t)
	for _, e := range entries {
		b.Add(e.header, e.content)
	}
	return b.Bytes()
}

// randomTars are the layers of an image. With sense, entries that can't be
// applied are left out: most random images have one, and are refused.
func randomTars(t testing.TB, r *rand.Rand, sense bool) [][]byte {
	var tars [][]byte
	for range 1 + r.IntN(4) {
		var entries []entry
		for range 1 + r.IntN(25) {
			e := randomEntry(r)
			if !sense || applies(t, append(tars, tarOf(t, append(entries, e)))) {
				entries = append(entries, e)
			}
		}
		tars = append(tars, tarOf(t, entries))
	}
	return tars
}

func applies(t testing.TB, tars [][]byte) bool {
	var layers []*flatten.Layer
	for _, data := range tars {
		l, err := flatten.Scan(t.Context(), bytes.NewReader(data), flatten.ScanOptions{})
		if err != nil {
			return false
		}
		layers = append(layers, l)
	}
	_, err := flatten.Merge(t.Context(), layers, flatten.MergeOptions{})
	return err == nil
}

// TestRandomLayers compares random images with umoci: what it unpacks must be
// what we mount, and what it refuses we refuse. THAW_TEST_ROUNDS sets how many
// images; a seed that failed is in the name of the test.
func TestRandomLayers(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireTool(t, "umoci")
	rounds := 48
	if s := os.Getenv("THAW_TEST_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	w := newWorld(t)
	compared := 0
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 7))
			var blobs []testkit.Blob
			for _, data := range randomTars(t, r, seed%4 > 0) {
				blobs = append(blobs, testkit.PlainLayer(data))
			}
			dir := t.TempDir()
			testkit.WriteLayout(t, filepath.Join(dir, "oci"), "latest", blobs...)
			out, refused := exec.CommandContext(t.Context(), "umoci", "unpack", "--image", filepath.Join(dir, "oci")+":latest", filepath.Join(dir, "bundle")).CombinedOutput()
			result, err := ingest.Run(t.Context(), private(blobs...), "", w.options())
			if (err != nil) != (refused != nil) {
				t.Fatalf("we say %v, umoci %v\n%s", err, refused, out)
			}
			if err != nil {
				return
			}
			compared++
			want := ingesttest.ReadTree(t, filepath.Join(dir, "bundle", "rootfs"))
			got := w.mounted(t, result.Image)
			forgetUnsaid(got, want)
			report(t, ingesttest.Diff(got, want, added(want)))
		})
	}
	t.Logf("%d of %d images compared", compared, rounds)
	if compared == 0 && rounds > 10 {
		t.Error("umoci refused every image: the test compares nothing")
	}
}
