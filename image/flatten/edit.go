// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"thaw.dev/thaw/format/erofs"
)

// Editor changes files of a tree whose layers are all applied.
type Editor struct{ m *merger }

// Source says where the bytes of a file are.
type Source struct {
	Layer, Ordinal int   // as in [File]; Ordinal is -1 if the file has no bytes
	Size           int64 // 0 if it has none
}

// Find returns where the bytes of the file at path are, symbolic links
// followed. ok is false where none can be read: there is nothing, or the links
// lead in circles or into what is mounted in a sandbox. The error is
// [thaw.Invalid] for something that is not a file.
func (e Editor) Find(path string) (s Source, ok bool, err error) {
	n := e.node(path)
	if n == nil {
		return Source{Ordinal: -1}, false, nil
	}
	if !n.inode.IsRegular() {
		return s, false, badMountPoint(mountPoint{path: path, mode: modeRegular}, "%s", describeNode(n))
	}
	s.Size = n.inode.Size
	if n.inode.Ref < 0 {
		return Source{Ordinal: -1}, true, nil
	}
	from := e.m.sources[n.inode.Ref]
	s.Layer, s.Ordinal = int(from.layer), int(from.ordinal)
	return s, true, nil
}

// node is what path leads to, or nil where no sandbox could read it.
func (e Editor) node(path string) *node {
	m := e.m
	if m.resolve(path) != nil || len(m.missing) > 0 || e.hidden() {
		return nil
	}
	return m.last()
}

// hidden reports whether what was last resolved is mounted over in a sandbox.
func (e Editor) hidden() bool { return e.m.covered() }

// Write gives the file at path other bytes: size of them, which are found at from. It
// becomes readable to everybody and keeps its owner, time and other attributes.
// Where [Editor.Find] found none a file is made: where the links lead, or in
// their place if no file of the image can be there. Other names of the file
// keep the old bytes.
func (e Editor) Write(path string, from Source) error {
	inode := &erofs.Inode{Mode: modeRegular | 0o644}
	if old := e.node(path); old != nil {
		*inode = *old.inode
		inode.Mode |= 0o444
	}
	parent, base, err := e.place(path)
	if err != nil {
		return err
	}
	inode.Size, inode.Ref = from.Size, int32(len(e.m.sources))
	e.m.sources = append(e.m.sources, source{layer: int32(from.Layer), ordinal: int32(from.Ordinal)})
	delete(parent.children, base)
	_, err = e.m.add(parent, base, inode)
	return err
}

// place returns the directory and the name that path leads to, and makes
// directories that are missing.
func (e Editor) place(path string) (parent *node, base string, err error) {
	m := e.m
	m.layer++
	if n := e.node(path); n != nil {
		parent = m.chain[len(m.chain)-2]
		for name, child := range parent.children {
			if child == n {
				return parent, name, nil
			}
		}
	}
	if m.resolve(path) == nil && len(m.missing) > 0 && m.last().isDir() && !e.hidden() {
		base = m.missing[len(m.missing)-1]
		m.missing = m.missing[:len(m.missing)-1]
		err = m.makeMissing(path)
		return m.last(), base, err
	}
	dir, base := splitName(path)
	err = m.resolve(dir)
	return m.last(), base, err
}
