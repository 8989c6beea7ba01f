// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"context"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/erofs"
)

// MergeOptions says how to apply layers.
type MergeOptions struct {
	MaxEntries int // names in the tree and entries of all layers; 0 means [DefaultMaxEntries]

	// Budget is the one that the layers were scanned with. It is charged for what
	// a name costs beyond its entry: a path that symbolic links make longer, and
	// folders that no entry describes. Nil is a new one of [DefaultBudget].
	Budget *Budget

	// MountPoints adds what a sandbox mounts things on where the image lacks
	// it, so that the image itself can be a root: see [AddedMountPoints]. An
	// image that has something else there is [thaw.Invalid].
	MountPoints bool

	// Edit, if set, is called once all layers are applied, to change files.
	Edit func(Editor) error
}

// Merge applies layers, bottom first, and returns the tree. It takes the
// layers over: their lists are freed as they are applied. A layer that can't be
// applied (a hard link to nothing, a name below a file) is [thaw.Invalid]; more
// names than allowed are [thaw.TooLarge].
func Merge(ctx context.Context, layers []*Layer, o MergeOptions) (*Tree, error) {
	if o.MaxEntries == 0 {
		o.MaxEntries = DefaultMaxEntries
	}
	if o.Budget == nil {
		o.Budget = NewBudget(0)
	}
	m := &merger{max: o.MaxEntries, budget: o.Budget, root: &node{inode: undescribed(nil)}}
	entries := 0
	for i, l := range layers {
		if entries += l.entries; entries > o.MaxEntries {
			return nil, thaw.Errorf(op(l.name), thaw.TooLarge, "with it the image has more than the %d entries that an image may have", o.MaxEntries)
		}
		if err := m.apply(ctx, l, int32(i+1)); err != nil {
			return nil, err
		}
	}
	if o.MountPoints {
		if err := m.addMountPoints(); err != nil {
			return nil, err
		}
	}
	if o.Edit != nil {
		if err := o.Edit(Editor{m}); err != nil {
			return nil, err
		}
	}
	return m.tree(), nil
}

// node is a name in the tree; hard links are nodes with the same inode.
type node struct {
	inode    *erofs.Inode
	children map[string]*node // of a directory
	touched  int32            // the last layer, from 1, that made this or something below it
	emptied  int32            // the last layer that has deleted everything older below this
	path     int32            // length of its path in bytes
}

func (n *node) isDir() bool { return n.inode.IsDir() }

// undescribed makes a directory that no entry describes, or that none has yet,
// as mkdir would: in a directory with the set-group-id bit it has that bit and
// that group too.
func undescribed(parent *erofs.Inode) *erofs.Inode {
	dir := &erofs.Inode{Mode: modeDir | 0o755, Ref: -1}
	if parent != nil && parent.Mode&modeSetGID != 0 {
		dir.Mode |= modeSetGID
		dir.GID = parent.GID
	}
	return dir
}

// source says where the bytes of a regular file are; ordinal is -1 if it has
// none.
type source struct {
	layer, ordinal int32
	placed         bool // counted in the tree
}

// merger is the tree while layers are applied.
type merger struct {
	root    *node
	sources []source // Inode.Ref of a regular file is an index
	max     int      // bounds nodes
	budget  *Budget
	nodes   int
	steps   int // names looked up, see maxSteps

	layer int32  // the layer being applied, from 1
	name  string // how errors name it

	mounted  []*node // directories that a sandbox mounts something on
	walkable bool    // resolve makes what a process needs to follow the same links

	// The result of the last resolve.
	chain   []*node  // root first, as far as the path exists
	missing []string // what of the path does not exist below chain
}

func (m *merger) apply(ctx context.Context, l *Layer, number int32) error {
	m.layer, m.name = number, l.name
	for i, slab := range l.slabs {
		if err := ctx.Err(); err != nil {
			return thaw.Wrap(op(l.name), err)
		}
		for j := range slab {
			if err := m.applyEntry(&slab[j]); err != nil {
				return err
			}
		}
		l.slabs[i] = nil
	}
	l.slabs = nil
	return nil
}

func (m *merger) applyEntry(e *entry) error {
	if e.kind == kindOpaque {
		if err := m.resolve(e.name); err != nil {
			return err
		}
		if len(m.missing) == 0 {
			m.empty(m.last())
		}
		return nil
	}
	if e.name == "" {
		m.describe(m.root.inode, e)
		return nil
	}
	dir, base := splitName(e.name)
	if err := m.resolve(dir); err != nil {
		return err
	}
	if e.kind == kindWhiteout {
		m.whiteout(base)
		return nil
	}
	if err := m.makeMissing(e.name); err != nil {
		return err
	}
	return m.place(m.last(), base, e)
}

// whiteout deletes base from the directory last resolved, so far as a lower
// layer made it.
func (m *merger) whiteout(base string) {
	if len(m.missing) > 0 {
		return
	}
	parent := m.last()
	child := parent.children[base]
	switch {
	case child == nil:
	case child.touched != m.layer:
		delete(parent.children, base)
	default:
		m.empty(child)
	}
}

// empty deletes what lower layers have below n. What is left was touched by
// this layer, so a second time in the same layer has nothing to do: that bounds
// the work of a layer full of whiteouts.
func (m *merger) empty(n *node) {
	if n.emptied == m.layer {
		return
	}
	n.emptied = m.layer
	for name, child := range n.children {
		if child.touched != m.layer {
			delete(n.children, name)
		} else {
			m.empty(child)
		}
	}
}

// place makes base in parent what e says.
func (m *merger) place(parent *node, base string, e *entry) error {
	if old := parent.children[base]; old != nil {
		if e.kind == kindDir && old.isDir() {
			m.describe(old.inode, e)
			old.touched = m.layer
			return nil
		}
		delete(parent.children, base) // before a link is resolved: it can't be to what it replaces
	}
	var inode *erofs.Inode
	if e.kind == kindLink {
		target, err := m.linkTarget(e)
		if err != nil {
			return err
		}
		inode = target
	} else {
		inode = &erofs.Inode{Ref: -1}
		m.describe(inode, e)
	}
	n, err := m.add(parent, base, inode)
	if err != nil {
		return err
	}
	return m.charge(n, e.name, true)
}

// charge takes from the budget what a new name costs: its path beyond the bytes
// that are paid for, and all of it where there was no entry.
func (m *merger) charge(n *node, entry string, described bool) error {
	if !described {
		return m.budget.take(m.name, entry, entryCost+textCost*int64(n.path))
	}
	return m.budget.take(m.name, entry, textCost*max(0, int64(n.path)-1-int64(len(entry))))
}

// add makes a new name.
func (m *merger) add(parent *node, base string, inode *erofs.Inode) (*node, error) {
	if m.nodes++; m.nodes > m.max {
		return nil, thaw.Errorf(op(m.name), thaw.TooLarge, "with it the image has more than the %d names that an image may have", m.max)
	}
	if parent.children == nil {
		parent.children = make(map[string]*node)
	}
	n := &node{inode: inode, touched: m.layer, path: parent.path + 1 + int32(len(base))}
	if n.path > maxNameBytes {
		return nil, invalid(m.name, base, "has a path of more than %d bytes once symbolic links are followed", maxNameBytes)
	}
	parent.children[strings.Clone(base)] = n // base is a part of a longer string
	return n, nil
}

// describe gives an inode the attributes of e.
func (m *merger) describe(in *erofs.Inode, e *entry) {
	in.Mode, in.UID, in.GID, in.Rdev = e.mode, e.uid, e.gid, e.rdev
	in.Mtime, in.MtimeNsec, in.Xattrs = e.mtime, e.nsec, e.xattrs
	switch e.kind {
	case kindSymlink:
		in.Target = e.link
	case kindRegular:
		in.Size, in.Ref = e.size, int32(len(m.sources))
		m.sources = append(m.sources, source{layer: m.layer - 1, ordinal: e.ordinal})
	}
}

// linkTarget finds the inode that a hard link is to be another name of.
func (m *merger) linkTarget(e *entry) (*erofs.Inode, error) {
	dir, base := splitName(e.link)
	if err := m.resolve(dir); err != nil {
		return nil, err
	}
	var target *node
	if len(m.missing) == 0 {
		target = m.last().children[base]
	}
	switch {
	case target == nil:
		return nil, invalid(m.name, e.name, "is a hard link to %.300q, which does not exist", e.link)
	case target.isDir():
		return nil, invalid(m.name, e.name, "is a hard link to %.300q, which is a directory", e.link)
	}
	return target.inode, nil
}
