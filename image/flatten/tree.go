// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"slices"
	"strings"

	"thaw.dev/thaw/format/erofs"
)

// tree turns the nodes into inodes with entries and lists the files.
func (m *merger) tree() *Tree {
	t := &Tree{Root: m.root.inode}
	b := treeBuilder{merger: m, tree: t}
	b.directory(m.root)
	for i, f := range t.Files {
		f.Inode.Ref = int32(i) // until now it was the index of its source
	}
	return t
}

type treeBuilder struct {
	*merger
	tree *Tree
	path []byte // of the directory being built, with a slash at its end unless it is the root
}

// directory fills the entries of a directory and all below it. The order is
// the bytewise order of paths, in which a directory counts with the slash that
// its contents have behind its name.
func (b *treeBuilder) directory(dir *node) {
	b.tree.Count.Dirs++
	keys := make([]string, 0, len(dir.children))
	for name, child := range dir.children {
		if child.isDir() {
			name += "/"
		}
		keys = append(keys, name)
	}
	slices.Sort(keys)
	dir.inode.Entries = make([]erofs.Entry, 0, len(keys))
	for _, key := range keys {
		name, isDir := strings.CutSuffix(key, "/")
		child := dir.children[name]
		dir.inode.Entries = append(dir.inode.Entries, erofs.Entry{Name: name, Inode: child.inode})
		if isDir {
			up := len(b.path)
			b.path = append(b.path, key...)
			b.directory(child)
			b.path = b.path[:up]
		} else {
			b.name(name, child.inode)
		}
	}
	dir.children = nil
}

// name counts a name that isn't a directory's and, if it is the first of a
// file with bytes, lists it.
func (b *treeBuilder) name(name string, in *erofs.Inode) {
	if !in.IsRegular() {
		if in.Target != "" {
			b.tree.Count.Links++
		}
		return
	}
	if in.Ref < 0 { // an empty file that was counted under another name
		b.tree.Count.Links++
		return
	}
	s := &b.sources[in.Ref]
	if s.placed {
		b.tree.Count.Links++
		return
	}
	s.placed = true
	b.tree.Count.Files++
	if s.ordinal < 0 {
		in.Ref = -1
		return
	}
	b.tree.Files = append(b.tree.Files, File{Path: string(b.path) + name, Inode: in, Layer: int(s.layer), Ordinal: int(s.ordinal)})
}
