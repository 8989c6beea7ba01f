// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// image is a tree, encoded, with the data of its files behind.
type image struct {
	root  *Inode
	plan  *Plan
	bytes []byte
}

// build plans and encodes a tree, with each file's data in the order of the
// plan. A file's content follows from its Ref and Size.
func build(t testing.TB, root *Inode) image {
	t.Helper()
	p, err := NewPlan(root)
	if err != nil {
		t.Fatal(err)
	}
	next := p.MetaBlocks()
	var data bytes.Buffer
	for _, in := range p.order {
		if !in.IsRegular() || in.Size == 0 {
			continue
		}
		in.Block = next
		data.Write(content(in))
		data.Write(make([]byte, roundUp(in.Size, blockBytes)-in.Size))
		next = p.MetaBlocks() + uint32(data.Len()/blockBytes)
	}
	meta, err := p.Encode(next)
	if err != nil {
		t.Fatal(err)
	}
	if len(meta) != int(p.MetaBlocks())*blockBytes {
		t.Fatalf("Encode made %d bytes of %d blocks", len(meta), p.MetaBlocks())
	}
	return image{root, p, append(meta, data.Bytes()...)}
}

// save writes the image to a file of its own and returns its path.
func (im image) save(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, im.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (im image) reader(t testing.TB) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(im.bytes), int64(len(im.bytes)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func content(in *Inode) []byte {
	b := make([]byte, in.Size)
	rng := rand.New(rand.NewPCG(uint64(in.Ref), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// seen is what a reader of an image sees of one path.
type seen struct {
	Ino            uint64
	Mode, UID, GID uint32
	Mtime          int64
	MtimeNsec      uint32
	Nlink, Rdev    uint32
	Size           int64
	Target         string
	Xattrs         []Xattr
	Content        []byte // of regular files; only its hash is kept by String
}

// String returns one line, so that two listings can be compared as text.
func (s seen) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mode=%o owner=%d:%d mtime=%d.%09d nlink=%d rdev=%#x size=%d", s.Mode, s.UID, s.GID, s.Mtime,
		s.MtimeNsec, s.Nlink, s.Rdev, s.Size)
	if s.Target != "" {
		fmt.Fprintf(&b, " target=%q", s.Target)
	}
	slices.SortFunc(s.Xattrs, func(x, y Xattr) int { return strings.Compare(x.Name, y.Name) })
	for _, x := range s.Xattrs {
		fmt.Fprintf(&b, " %s=%s", x.Name, short(x.Value))
	}
	if s.Mode&modeType == modeRegular {
		fmt.Fprintf(&b, " content=%s", short(s.Content))
	}
	fmt.Fprintf(&b, " inode=%d", s.Ino)
	return b.String()
}

func short(b []byte) string {
	if len(b) <= 24 {
		return fmt.Sprintf("%x", b)
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d bytes %x", len(b), sum[:8])
}

// want lists what every reader must see of the image, a line for each path.
func (im image) want() []string {
	var lines []string
	var walk func(path string, in *Inode)
	walk = func(path string, in *Inode) {
		s := seen{Ino: uint64(in.nid), Mode: in.Mode, UID: in.UID, GID: in.GID, Mtime: in.Mtime, MtimeNsec: in.MtimeNsec,
			Nlink: in.nlink, Size: in.Size, Target: in.Target, Xattrs: slices.Clone(in.Xattrs)}
		if kind := in.Mode & modeType; kind == modeChar || kind == modeBlock {
			s.Rdev = in.Rdev
		}
		if in.IsRegular() {
			s.Content = content(in)
		}
		lines = append(lines, fmt.Sprintf("%q %s", path, s))
		for _, e := range in.Entries {
			walk(path+"/"+e.Name, e.Inode)
		}
	}
	walk("", im.root)
	slices.Sort(lines)
	return lines
}

// listReader lists what our own Reader sees.
func listReader(t testing.TB, r *Reader) []string {
	t.Helper()
	var lines []string
	err := r.Walk(func(path string, n *Node) error {
		s := seen{Ino: n.NID, Mode: n.Mode, UID: n.UID, GID: n.GID, Mtime: n.Mtime, MtimeNsec: n.MtimeNsec,
			Nlink: n.Nlink, Rdev: n.Rdev, Size: n.Size, Target: n.Target, Xattrs: n.Xattrs}
		if n.IsRegular() {
			f, err := r.Open(n)
			if err != nil {
				return err
			}
			if s.Content, err = io.ReadAll(f); err != nil {
				return err
			}
		}
		if path != "" {
			path = "/" + path
		}
		lines = append(lines, fmt.Sprintf("%q %s", path, s))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// sameLines fails the test where two listings differ.
func sameLines(t testing.TB, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	shown := 0
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d\n got  %.600s\n want %.600s", i, g, w)
			if shown++; shown == 5 {
				break
			}
		}
	}
	t.Fatalf("%d lines seen, %d wanted", len(got), len(want))
}
