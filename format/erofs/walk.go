// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"

	"thaw.dev/thaw"
)

// DirEntry is an entry of a directory as it was read.
type DirEntry struct {
	Name string
	NID  uint64
	Type byte // as on disk: 1 regular, 2 directory, 3 character, 4 block device, 5 FIFO, 6 socket, 7 symbolic link
}

// Entries yields the entries of a directory in their order, without "." and
// "..". After an error, which is [thaw.Corrupt] or the source's, it ends.
func (r *Reader) Entries(dir *Node) iter.Seq2[DirEntry, error] {
	return func(yield func(DirEntry, error) bool) {
		fail := func(err error) { yield(DirEntry{}, thaw.Wrap("erofs: read directory", err)) }
		if !dir.IsDir() {
			fail(thaw.Errorf("", thaw.Invalid, "node %d is not a directory", dir.NID))
			return
		}
		block := make([]byte, blockBytes)
		last, dots := "", 0
		for at := int64(0); at < dir.Size; at += blockBytes {
			b := block[:min(blockBytes, dir.Size-at)]
			entries, err := r.readDirBlock(dir, b, at)
			if err != nil {
				fail(err)
				return
			}
			for _, e := range entries {
				if e.Name <= last {
					fail(corrupt("directory %d: %q follows %q", dir.NID, e.Name, last))
					return
				}
				last = e.Name
				if e.Name == "." || e.Name == ".." {
					dots++
					if e.Type != direntType(modeDir) || e.Name == "." && e.NID != dir.NID {
						fail(corrupt("directory %d: %q is not a directory, or the wrong one", dir.NID, e.Name))
						return
					}
				} else if !yield(e, nil) {
					return
				}
			}
		}
		if dots != 2 {
			fail(corrupt("directory %d lacks \".\" or \"..\"", dir.NID))
		}
	}
}

// readDirBlock reads the block of dir that begins at offset at of its content
// into b and returns its entries.
func (r *Reader) readDirBlock(dir *Node, b []byte, at int64) ([]DirEntry, error) {
	from := int64(dir.Block)*blockBytes + at
	if dir.Size-at <= dir.inlineBytes {
		from = dir.inlineAt
	}
	if err := r.read(b, from); err != nil {
		return nil, err
	}
	entries, ok := parseDirBlock(b)
	if !ok {
		return nil, corrupt("directory %d is malformed at offset %d", dir.NID, at)
	}
	return entries, nil
}

func parseDirBlock(b []byte) ([]DirEntry, bool) {
	if len(b) < direntBytes {
		return nil, false
	}
	le := binary.LittleEndian
	heads := int(le.Uint16(b[8:]))
	if heads < direntBytes || heads%direntBytes != 0 || heads >= len(b) {
		return nil, false
	}
	entries := make([]DirEntry, heads/direntBytes)
	nameAt := heads
	for i := range entries {
		head := b[i*direntBytes:][:direntBytes]
		end := len(b)
		if i+1 < len(entries) {
			end = int(le.Uint16(b[(i+1)*direntBytes+8:]))
		} else if zero := bytes.IndexByte(b[nameAt:], 0); zero >= 0 {
			end = nameAt + zero
		}
		if int(le.Uint16(head[8:])) != nameAt || end <= nameAt || end > len(b) || end-nameAt > maxNameBytes {
			return nil, false
		}
		name := b[nameAt:end]
		if bytes.ContainsAny(name, "/\x00") {
			return nil, false
		}
		entries[i] = DirEntry{Name: string(name), NID: le.Uint64(head), Type: head[10]}
		nameAt = end
	}
	return entries, true
}

// Walk calls visit for the root, with the path "", and for everything below
// it, with paths such as "usr/bin/env": a directory before what is in it, the
// names of a directory in bytewise order. Hard links are visited at each of
// their names. Walk ends with visit's error, with [thaw.Corrupt], which it is
// also for directories that hold themselves or share their blocks, or with the
// source's error. What it does is bounded by the size of the image.
func (r *Reader) Walk(visit func(path string, n *Node) error) error {
	const op = "erofs: walk"
	root, err := r.Root()
	if err != nil {
		return thaw.Wrap(op, err)
	}
	w := walk{r: r, stack: []walkItem{{entry: DirEntry{NID: root.NID, Type: direntType(modeDir)}}}}
	seen := map[uint64]bool{}
	for len(w.stack) > 0 {
		top := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		path := top.path()
		n, err := r.entryNode(top.entry)
		switch {
		case err != nil:
			return thaw.Wrap(op, err)
		case len(path) > maxPathBytes:
			return thaw.Errorf(op, thaw.Corrupt, "a path is longer than %d bytes", maxPathBytes)
		case n.IsDir() && seen[n.NID]:
			return thaw.Errorf(op, thaw.Corrupt, "directory %d has two names, one of them %.200q", n.NID, path)
		}
		if err := visit(path, n); err != nil {
			return err
		}
		if n.IsDir() {
			seen[n.NID] = true
			if err := w.push(path, n); err != nil {
				return thaw.Wrap(op, err)
			}
		}
	}
	return nil
}

// walk is what a Walk still has to visit.
type walk struct {
	r        *Reader
	stack    []walkItem // the next one last
	dirBytes int64      // of all directories seen
}

// walkItem is an entry that was not yet read, so that a small image can't fill
// the memory with long paths or with the attributes of one inode under many names.
type walkItem struct {
	dir   string
	entry DirEntry
}

func (w walkItem) path() string {
	if w.dir == "" {
		return w.entry.Name
	}
	return w.dir + "/" + w.entry.Name
}

// push adds the entries of a directory.
func (w *walk) push(path string, dir *Node) error {
	if w.dirBytes += dir.Size; w.dirBytes > w.r.size {
		return corrupt("the directories take more bytes than the image has")
	}
	first := len(w.stack)
	for e, err := range w.r.Entries(dir) {
		if err != nil {
			return err
		}
		w.stack = append(w.stack, walkItem{path, e})
	}
	slices.Reverse(w.stack[first:])
	return nil
}
