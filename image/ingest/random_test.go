package ingest_test

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// randomTar has entries of every kind under names so few that they meet.
func randomTar(t testing.TB, r *rand.Rand) []byte {
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
	b := testkit.NewTar(t)
	for range 1 + r.IntN(25) {
		h := tar.Header{Name: name(), Mode: int64(r.IntN(0o10000)), Uid: r.IntN(3), Gid: r.IntN(3), ModTime: time.Unix(int64(r.IntN(1000)), int64(r.IntN(2))*1001)}
		content := ""
		switch r.IntN(12) {
		case 0, 1, 2:
			h.Typeflag, content = tar.TypeReg, noise(r.Uint64(), r.IntN(3)*r.IntN(6000))
			if r.IntN(10) == 0 {
				content = noise(r.Uint64(), 300_000)
			}
		case 3, 4, 5:
			h.Typeflag = tar.TypeDir
			if r.IntN(2) == 0 {
				h.PAXRecords = xattrs("user.x", fmt.Sprint(r.IntN(3)))
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
		b.Add(h, content)
	}
	return b.Bytes()
}

// TestRandomLayers compares random images with umoci: what it unpacks must be
// what we mount, and what it refuses we refuse. THAW_TEST_ROUNDS sets how many
// images; a seed that failed is in the name of the test.
func TestRandomLayers(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireTool(t, "umoci")
	rounds := 60
	if s := os.Getenv("THAW_TEST_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	w := newWorld(t)
	compared := 0
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 7))
			var blobs []testkit.Blob
			var tars [][]byte
			for range 1 + r.IntN(4) {
				tars = append(tars, randomTar(t, r))
				blobs = append(blobs, testkit.PlainLayer(tars[len(tars)-1]))
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
	if compared == 0 && rounds > 10 {
		t.Error("umoci refused every image: the test compares nothing")
	}
}
