// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

func TestNewPlanRefuses(t *testing.T) {
	cyclic := dir()
	cyclic.Entries = []Entry{{"self", cyclic}}
	twice := dir()
	deep := dir()
	for range 300 {
		deep = dir(Entry{strings.Repeat("d", 250), deep})
	}
	one := func(in *Inode) *Inode { return dir(Entry{"x", in}) }
	named := func(name string) *Inode { return dir(Entry{name, file(1, 1)}) }
	attr := func(xattrs ...Xattr) *Inode {
		return one(with(file(1, 1), func(in *Inode) { in.Xattrs = xattrs }))
	}
	var heavy []Xattr
	for i := range 5 {
		heavy = append(heavy, Xattr{fmt.Sprintf("user.%d", i), make([]byte, 60_000)})
	}
	for name, root := range map[string]*Inode{
		"no root":                     nil,
		"a root that is a file":       file(1, 1),
		"a directory in itself":       cyclic,
		"a directory with two names":  dir(Entry{"a", twice}, Entry{"b", twice}),
		"an entry without an inode":   one(nil),
		"an empty name":               named(""),
		"dot":                         named("."),
		"dot dot":                     named(".."),
		"a slash":                     named("a/b"),
		"a zero byte":                 named("a\x00"),
		"a name of 256 bytes":         named(strings.Repeat("n", 256)),
		"a name twice":                dir(Entry{"a", file(1, 1)}, Entry{"b", file(2, 1)}, Entry{"a", file(3, 1)}),
		"no type":                     one(&Inode{Mode: 0o644}),
		"an unknown type":             one(&Inode{Mode: 0o150000}),
		"bits beyond the mode":        one(&Inode{Mode: modeRegular | 1<<16}),
		"a negative size":             one(file(1, -1)),
		"nanoseconds of a second":     one(with(file(1, 1), func(in *Inode) { in.MtimeNsec = 1e9 })),
		"entries in a file":           one(with(file(1, 1), func(in *Inode) { in.Entries = []Entry{{"x", file(2, 1)}} })),
		"a target in a file":          one(with(file(1, 1), func(in *Inode) { in.Target = "x" })),
		"an empty target":             one(symlink("")),
		"a target of 4096 bytes":      one(symlink(strings.Repeat("t", 4096))),
		"a target with a zero byte":   one(symlink("a\x00b")),
		"an attribute of no class":    attr(Xattr{"x", nil}),
		"an attribute of system.":     attr(Xattr{"system.nfs4_acl", nil}),
		"an attribute without a name": attr(Xattr{"user.", nil}),
		"an access list with a name":  attr(Xattr{"system.posix_acl_access.x", nil}),
		"a long attribute name":       attr(Xattr{"user." + strings.Repeat("n", 256), nil}),
		"an attribute's zero byte":    attr(Xattr{"user.a\x00b", nil}),
		"a long attribute value":      attr(Xattr{"user.x", make([]byte, 1<<16)}),
		"an attribute twice":          attr(Xattr{"user.x", nil}, Xattr{"user.y", nil}, Xattr{"user.x", []byte("2")}),
		"too many attributes":         attr(heavy...),
		"a path that does not end":    deep,
	} {
		if p, err := NewPlan(root); thaw.KindOf(err) != thaw.Invalid || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		block  uint32
		blocks uint32
	}{
		{"no block", 0, 100}, {"a block in the metadata", 1, 100}, {"an end beyond the image", 99, 100},
		{"a block beyond the image", 100, 100}, {"a block far beyond", 1<<32 - 1, 100}, {"no room at all", 2, 0},
	} {
		in := file(1, 5000)
		p, err := NewPlan(dir(Entry{"x", in}, Entry{"l", symlink(strings.Repeat("l", 4095))}))
		if err != nil {
			t.Fatal(err)
		}
		in.Block = c.block
		if _, err := p.Encode(c.blocks); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	root := dir()
	first, err := NewPlan(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPlan(root); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Encode(1); thaw.KindOf(err) != thaw.Invalid {
		t.Errorf("a plan whose tree has got another plan: %v", err)
	}
}

// shuffle puts every directory's entries and every inode's attributes in
// another order.
func shuffle(in *Inode, rng *rand.Rand) {
	rng.Shuffle(len(in.Entries), func(i, j int) { in.Entries[i], in.Entries[j] = in.Entries[j], in.Entries[i] })
	rng.Shuffle(len(in.Xattrs), func(i, j int) { in.Xattrs[i], in.Xattrs[j] = in.Xattrs[j], in.Xattrs[i] })
	for _, e := range in.Entries {
		shuffle(e.Inode, rng)
	}
}

func TestSameTreeSameBytes(t *testing.T) {
	for _, tree := range nastyTrees() {
		want := build(t, tree.root())
		for seed := range uint64(3) {
			root := tree.root()
			shuffle(root, rand.New(rand.NewPCG(seed, 2)))
			if got := build(t, root); !bytes.Equal(got.bytes, want.bytes) {
				t.Errorf("%s: another order gave other bytes", tree.name)
			}
		}
	}
}

// randomTree draws a tree with hard links, attributes and long names.
func randomTree() *rapid.Generator[*Inode] {
	return rapid.Custom(func(t *rapid.T) *Inode {
		root := randomInode(t, modeDir)
		dirs, others := []*Inode{root}, []*Inode{}
		for i := range rapid.IntRange(0, 120).Draw(t, "entries") {
			parent := dirs[rapid.IntRange(0, len(dirs)-1).Draw(t, "parent")]
			in := randomInode(t, rapid.SampledFrom([]uint32{modeDir, modeDir, modeRegular, modeRegular, modeRegular, modeSymlink,
				modeChar, modeBlock, modeFIFO, modeSocket, 0}).Draw(t, "type"))
			switch {
			case in == nil && len(others) > 0:
				in = others[rapid.IntRange(0, len(others)-1).Draw(t, "linked")]
			case in == nil:
				continue
			case in.IsDir():
				dirs = append(dirs, in)
			default:
				others = append(others, in)
			}
			name := fmt.Sprintf("%s%d", strings.Repeat(rapid.SampledFrom([]string{"-", ".", "n", "\xff"}).Draw(t, "letter"),
				rapid.IntRange(0, 250).Draw(t, "length")), i)
			parent.Entries = append(parent.Entries, Entry{name, in})
		}
		return root
	})
}

// randomInode draws an inode of that type; nil of type 0.
func randomInode(t *rapid.T, kind uint32) *Inode {
	if kind == 0 {
		return nil
	}
	in := &Inode{Mode: kind | rapid.Uint32Range(0, 0o7777).Draw(t, "mode"), UID: rapid.Uint32().Draw(t, "uid"), GID: rapid.Uint32().Draw(t, "gid"),
		Mtime: rapid.Int64().Draw(t, "mtime"), MtimeNsec: rapid.Uint32Range(0, maxNsec).Draw(t, "nsec")}
	switch kind {
	case modeRegular:
		in.Ref, in.Size = rapid.Int32().Draw(t, "ref"), rapid.Int64Range(0, 9000).Draw(t, "size")
	case modeSymlink:
		in.Target = strings.Repeat("t", rapid.IntRange(1, maxTargetBytes).Draw(t, "target"))
	case modeChar, modeBlock:
		in.Rdev = rapid.Uint32().Draw(t, "device")
	}
	for i := range rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "attributes") {
		in.Xattrs = append(in.Xattrs, Xattr{fmt.Sprintf("user.%d", i), bytes.Repeat([]byte{7}, rapid.IntRange(0, 5000).Draw(t, "value"))})
	}
	return in
}

func TestRandomTrees(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		im := build(t, randomTree().Draw(rt, "tree"))
		if got, want := listReader(t, im.reader(t)), im.want(); !slices.Equal(got, want) {
			rt.Fatalf("the reader saw\n%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		checkPlaces(rt, im)
		before := im.bytes
		shuffle(im.root, rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3)))
		if again := build(t, im.root); !bytes.Equal(again.bytes, before) {
			rt.Fatal("another order gave other bytes")
		}
	})
}

// checkPlaces checks that no two things share a byte of the metadata.
func checkPlaces(t *rapid.T, im image) {
	type span struct{ from, to int64 }
	spans := []span{{0, superOffset + superBytes}}
	for _, in := range im.plan.order {
		at := int64(in.nid) * slotBytes
		head := inodeBytes + xattrBytes(in.Xattrs) + in.inlineBytes()
		spans = append(spans, span{at, at + head})
		if head <= blockBytes && at/blockBytes != (at+head-1)/blockBytes {
			t.Fatalf("inode %d of %d bytes crosses a block", in.nid, head)
		}
		if !in.IsRegular() && in.Size > in.inlineBytes() {
			from := int64(in.Block) * blockBytes
			spans = append(spans, span{from, from + in.Size - in.inlineBytes()})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	for i := 1; i < len(spans); i++ {
		if spans[i].from < spans[i-1].to {
			t.Fatalf("%v and %v overlap", spans[i-1], spans[i])
		}
	}
	if last := spans[len(spans)-1].to; last > int64(im.plan.MetaBlocks())*blockBytes {
		t.Fatalf("the metadata ends at %d, beyond its %d blocks", last, im.plan.MetaBlocks())
	}
}

// TestSizesAreReached guards the tree of sizes: it must hold the directories
// at which their place changes.
func TestSizesAreReached(t *testing.T) {
	sizes := map[int64]bool{}
	im := build(t, sizesTree())
	for _, e := range im.root.Entries {
		if e.Inode.IsDir() {
			sizes[e.Inode.Size] = true
		}
	}
	for _, n := range []int64{27, 4031, 4032, 4033, 4095, 4096, 4200, 8191, 8192} {
		if !sizes[n] {
			t.Errorf("there is no directory of %d bytes", n)
		}
	}
}

// TestDirectoryStaysTogether pins the order of the metadata: the entries of a
// directory and the inodes of its files lie in one short stretch.
func TestDirectoryStaysTogether(t *testing.T) {
	root := dir()
	for i := range 200 {
		d := dir()
		for j := range 20 {
			d.Entries = append(d.Entries, Entry{fmt.Sprintf("file-%d", j), file(int32(j), 1)})
		}
		root.Entries = append(root.Entries, Entry{fmt.Sprintf("dir-%03d", i), d})
	}
	im := build(t, root)
	for _, e := range im.root.Entries {
		first, last := e.Inode.nid, e.Inode.nid
		for _, f := range e.Inode.Entries {
			first, last = min(first, f.Inode.nid), max(last, f.Inode.nid)
		}
		if bytes := int64(last-first) * slotBytes; bytes > 2*blockBytes {
			t.Fatalf("%s and its files stretch over %d bytes", e.Name, bytes)
		}
	}
}
