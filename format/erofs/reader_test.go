// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"thaw.dev/thaw"
)

// TestReader compares what our own reader sees with the tree that was given.
func TestReader(t *testing.T) {
	for _, tree := range nastyTrees() {
		t.Run(tree.name, func(t *testing.T) {
			im := build(t, tree.root())
			sameLines(t, listReader(t, im.reader(t)), im.want())
		})
	}
}

func TestLookup(t *testing.T) {
	im := build(t, typesTree())
	r := im.reader(t)
	for _, c := range []struct {
		path string
		kind thaw.Kind
		mode uint32
	}{
		{"", 0, modeDir}, {"/", 0, modeDir}, {"file", 0, modeRegular}, {"/dir//inner/x", 0, modeRegular}, {"link", 0, modeSymlink},
		{"dir/", 0, modeDir}, {"none", thaw.NotFound, 0}, {"dir/none", thaw.NotFound, 0}, {"file/x", thaw.NotFound, 0},
		{"link/x", thaw.NotFound, 0}, {".", thaw.NotFound, 0}, {"dir/..", thaw.NotFound, 0},
	} {
		n, err := r.Lookup(c.path)
		switch {
		case c.kind != 0 && (thaw.KindOf(err) != c.kind || n != nil):
			t.Errorf("%q: %v, want %v", c.path, err, c.kind)
		case c.kind == 0 && (err != nil || n.Mode&modeType != c.mode):
			t.Errorf("%q: %v", c.path, err)
		}
	}
	n, err := r.Lookup("dir")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(n); thaw.KindOf(err) != thaw.Invalid {
		t.Errorf("opening a directory: %v", err)
	}
}

// failing is a source that fails from some offset on.
type failing struct {
	image []byte
	from  int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, thaw.Errorf("read", thaw.Unavailable, "the store is away")
	}
	return bytes.NewReader(f.image).ReadAt(p, off)
}

// TestReaderKeepsKinds: what the source fails with is not taken for a fault of
// the image, at whatever read it happens.
func TestReaderKeepsKinds(t *testing.T) {
	im := build(t, dir(Entry{"d", dirOfBytes(8192)}, Entry{"l", symlink(strings.Repeat("l", 4095))}))
	for from := int64(0); from < int64(im.plan.MetaBlocks())*blockBytes; from += 512 {
		r, err := NewReader(failing{im.bytes, from}, int64(len(im.bytes)))
		if err == nil {
			err = r.Walk(func(string, *Node) error { return nil })
		}
		if err != nil && thaw.KindOf(err) != thaw.Unavailable {
			t.Fatalf("a source that fails from %d on: %v", from, err)
		}
		if from < 4*blockBytes && err == nil {
			t.Fatalf("a source that fails from %d on was not noticed", from)
		}
	}
}

// TestWalkEnds checks that visit's error ends Walk and is what it returns.
func TestWalkEnds(t *testing.T) {
	visits := 0
	err := build(t, typesTree()).reader(t).Walk(func(string, *Node) error {
		visits++
		return io.EOF
	})
	if !errors.Is(err, io.EOF) || visits != 1 {
		t.Errorf("Walk went on for %d visits and returned %v", visits, err)
	}
}
