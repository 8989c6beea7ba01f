// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"fmt"
	"runtime"
	"testing"
)

// imageTree has the shape of a large real image: folders of 30 files with
// names of about 20 bytes, an attribute and a symbolic link here and there.
func imageTree(inodes int) *Inode {
	root := dir()
	var pkg *Inode
	for i := range inodes - 1 {
		if i%32 == 0 {
			pkg = dir()
			root.Entries = append(root.Entries, Entry{fmt.Sprintf("python-package-%06d", i), pkg})
			continue
		}
		in := &Inode{Mode: modeRegular | 0o644, Mtime: 1_700_000_000, MtimeNsec: uint32(i), Size: int64(i % 9000), Ref: int32(i)}
		switch i % 32 {
		case 7:
			in = &Inode{Mode: modeSymlink | 0o777, Target: fmt.Sprintf("../python-package-%06d/module-%06d.so", i, i)}
		case 9:
			in.Xattrs = []Xattr{{"security.capability", capability()}}
		}
		pkg.Entries = append(pkg.Entries, Entry{fmt.Sprintf("some-module-%06d.py", i), in})
	}
	return root
}

func encodeAll(t testing.TB, root *Inode) (*Plan, []byte) {
	t.Helper()
	p, err := NewPlan(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range p.order {
		if in.IsRegular() {
			in.Block = p.MetaBlocks()
		}
	}
	meta, err := p.Encode(p.MetaBlocks() + 3)
	if err != nil {
		t.Fatal(err)
	}
	return p, meta
}

// TestMemory holds 300,000 inodes to the memory that ingest has for them:
// tree, plan and output together under 200 MiB.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p, meta := encodeAll(t, imageTree(300_000))
	runtime.GC()
	runtime.ReadMemStats(&after)
	live := after.HeapAlloc - before.HeapAlloc
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d inodes: %d MiB of metadata, %d MiB live with the tree, %d MiB allocated in all", p.Inodes(), len(meta)>>20, live>>20, allocated>>20)
	if allocated > 200<<20 {
		t.Errorf("%d MiB were allocated for 300,000 inodes", allocated>>20)
	}
	runtime.KeepAlive(p)
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{10_000, 300_000} {
		root := imageTree(n)
		b.Run(fmt.Sprintf("inodes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, meta := encodeAll(b, root)
				b.SetBytes(int64(len(meta)))
			}
		})
	}
}

func BenchmarkWalk(b *testing.B) {
	im := build(b, imageTree(10_000))
	r := im.reader(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Walk(func(string, *Node) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
