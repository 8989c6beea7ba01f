// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// TestFidelity compares the mounted image with what umoci unpacks, for every
// attribute of every file.
func TestFidelity(t *testing.T) {
	for name, tars := range ingesttest.Cases(t) {
		t.Run(name, func(t *testing.T) { compareWithUmoci(t, tars) })
	}
}

// TestNastyTrees is the same for what tools and people make that is odd.
func TestNastyTrees(t *testing.T) {
	cases := ingesttest.Nasty(t)
	if len(cases) < 100 {
		t.Errorf("%d trees", len(cases))
	}
	for name, tars := range cases {
		t.Run(name, func(t *testing.T) { compareWithUmoci(t, tars) })
	}
}

func compareWithUmoci(t *testing.T, tars [][]byte) {
	t.Helper()
	var blobs []testkit.Blob
	for i, data := range tars {
		if i%2 == 0 {
			blobs = append(blobs, testkit.GzipLayer(t, data))
		} else {
			blobs = append(blobs, testkit.PlainLayer(data))
		}
	}
	want := umoci(t, blobs...)
	w := newWorld(t)
	r := w.mustRun(t, w.options(), private(blobs...)...)
	got := w.mounted(t, r.Image)
	forgetUnsaid(got, want)
	report(t, ingesttest.Diff(got, want, added(want)))
	emptyDir(t, w.temp)
}

// forgetUnsaid removes from want what umoci takes from the clock, since no
// entry says it: the time of directories that no entry describes, and of the
// directory in which the first of them was made.
func forgetUnsaid(got, want map[string]ingesttest.Node) {
	started := time.Now().Add(-time.Hour).Unix()
	for path, w := range want {
		var sec int64
		_, _ = fmt.Sscanf(w.Mtime, "%d.", &sec)
		if g, ok := got[path]; ok && w.Mode&0o170000 == 0o040000 && sec > started {
			w.Mtime = g.Mtime
			want[path] = w
		}
	}
}

// TestSparse has GNU tar write files with holes in all its formats.
func TestSparse(t *testing.T) {
	testkit.RequireTool(t, "tar")
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 7 {
		if _, err := f.WriteAt([]byte(ingesttest.Noise(uint64(i), 5000)), int64(i)*1_500_000+int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(20 << 20); err != nil {
		t.Fatal(err)
	}
	want := ingesttest.ReadTree(t, dir)["holes"]
	for _, format := range []string{"--format=gnu", "--format=posix --sparse-version=0.0", "--format=posix --sparse-version=0.1", "--format=posix --sparse-version=1.0"} {
		args := append([]string{"--sparse", "-C", dir, "-cf", "-"}, strings.Fields(format)...)
		cmd := exec.CommandContext(t.Context(), "tar", append(args, "holes")...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if out.Len() > 1<<20 {
			t.Fatalf("%s: tar did not see the holes", format)
		}
		w := newWorld(t)
		r := w.mustRun(t, w.options(), private(testkit.PlainLayer(out.Bytes()))...)
		if got := w.mounted(t, r.Image)["holes"]; got.Content != want.Content || got.Size != want.Size {
			t.Errorf("%s: the file has other bytes", format)
		}
		if r.ZeroChunks < 60 || r.NewBytes > 1<<20 {
			t.Errorf("%s: %d chunks of zeros, %d bytes stored: the holes were stored", format, r.ZeroChunks, r.NewBytes)
		}
	}
}
