// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"encoding/binary"
	"iter"
)

// dirents yields the entries of a directory as they are on disk: sorted by
// name, with "." and ".." among them.
func dirents(dir *Inode) iter.Seq2[string, *Inode] {
	return func(yield func(string, *Inode) bool) {
		dots := []Entry{{".", dir}, {"..", dir.parent}}
		for _, e := range dir.Entries {
			for len(dots) > 0 && dots[0].Name < e.Name {
				if !yield(dots[0].Name, dots[0].Inode) {
					return
				}
				dots = dots[1:]
			}
			if !yield(e.Name, e.Inode) {
				return
			}
		}
		for _, e := range dots {
			if !yield(e.Name, e.Inode) {
				return
			}
		}
	}
}

// dirBytes returns the size of a directory: its blocks, the last one only as
// far as it is used.
func dirBytes(dir *Inode) int64 {
	var full, used int64
	for name := range dirents(dir) {
		n := int64(direntBytes + len(name))
		if used+n > blockBytes {
			full += blockBytes
			used = 0
		}
		used += n
	}
	return full + used
}

// direntBlock gathers the entries of one block.
type direntBlock struct {
	names  []string
	inodes []*Inode
	used   int
}

// putDirents writes the entries of a directory. next is called with the
// number of bytes of each block in turn and returns where they go.
func putDirents(dir *Inode, next func(n int) []byte) {
	var b direntBlock
	for name, in := range dirents(dir) {
		if b.used+direntBytes+len(name) > blockBytes {
			b.put(next(blockBytes))
		}
		b.names = append(b.names, name)
		b.inodes = append(b.inodes, in)
		b.used += direntBytes + len(name)
	}
	b.put(next(b.used))
}

// put writes the gathered entries to dst, which is zero, and forgets them. All
// heads come first, then the names, without separators: a name ends where the
// next begins, the last one at the first zero or the block's end.
func (b *direntBlock) put(dst []byte) {
	nameAt := direntBytes * len(b.names)
	for i, name := range b.names {
		head := dst[i*direntBytes:]
		binary.LittleEndian.PutUint64(head, uint64(b.inodes[i].nid))
		binary.LittleEndian.PutUint16(head[8:], uint16(nameAt))
		head[10] = direntType(b.inodes[i].Mode)
		nameAt += copy(dst[nameAt:], name)
	}
	b.names, b.inodes, b.used = b.names[:0], b.inodes[:0], 0
}
