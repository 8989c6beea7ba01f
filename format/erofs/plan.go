// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"thaw.dev/thaw"
)

// Plan is a checked tree in which every inode has its place. It is used by one
// goroutine at a time.
type Plan struct {
	root  *Inode
	order []*Inode // every inode once, in the order of the metadata
	room  room
}

// NewPlan checks the tree, sorts the entries and attributes of its inodes,
// counts the links and gives every inode its place in the metadata. It takes
// the tree over: until Encode the caller may change nothing but the Block of
// regular files, and an inode belongs to the last plan that was made of it. An
// inode or a tree that EROFS or Linux can't hold is [thaw.Invalid].
//
// The metadata is a sequence of directories, parents before children and
// siblings by name. Each is its inode, its entries, and the inodes of the
// files in it (a hard link's at its first name). So looking a path up reads one
// short stretch for each directory in it, and reading a directory with all
// attributes reads one stretch.
func NewPlan(root *Inode) (*Plan, error) {
	const op = "erofs: plan"
	p := &Plan{root: root, room: room{next: superOffset + superBytes}}
	if root == nil || !root.IsDir() {
		return nil, thaw.Errorf(op, thaw.Invalid, "the root is not a directory")
	}
	root.parent = root
	if err := p.claim(root); err != nil {
		return nil, thaw.Wrap(op+" /", err)
	}
	root.nlink = 2
	stack := []pending{{root, ""}}
	for len(stack) > 0 {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		p.place(dir.inode)
		first := len(stack)
		for _, e := range dir.inode.Entries {
			path := dir.path + "/" + e.Name
			known := e.Inode != nil && e.Inode.plan == p
			if err := p.link(dir.inode, e); err != nil {
				return nil, thaw.Wrap(fmt.Sprintf("%s %.200q", op, path), err)
			}
			switch {
			case len(path) > maxPathBytes:
				return nil, thaw.Errorf(op, thaw.Invalid, "a path is longer than %d bytes", maxPathBytes)
			case e.Inode.IsDir():
				stack = append(stack, pending{e.Inode, path})
			case !known:
				p.place(e.Inode)
			}
		}
		slices.Reverse(stack[first:])
	}
	if p.room.blocks() > math.MaxUint32 {
		return nil, thaw.Errorf(op, thaw.TooLarge, "the metadata takes more than 2^32 blocks")
	}
	return p, nil
}

// pending is a directory whose entries are still to be placed.
type pending struct {
	inode *Inode
	path  string
}

// link counts the entry and claims the inode it names.
func (p *Plan) link(dir *Inode, e Entry) error {
	in := e.Inode
	switch {
	case in == nil:
		return invalid("the entry has no inode")
	case in.IsDir() && in.plan == p:
		return invalid("a directory has two names")
	case in.IsDir():
		in.parent = dir
		dir.nlink++
	}
	if in.plan != p {
		if err := p.claim(in); err != nil {
			return err
		}
	}
	if in.IsDir() {
		in.nlink = 2
	} else {
		in.nlink++
	}
	return nil
}

// claim checks an inode by itself, prepares it and makes it p's.
func (p *Plan) claim(in *Inode) error {
	kind := in.Mode & modeType
	switch {
	case in.Mode&^(modeType|0o7777) != 0 || direntType(in.Mode) == 0:
		return invalid("the mode %#o is of no type of file", in.Mode)
	case in.MtimeNsec > maxNsec:
		return invalid("the modification time has %d nanoseconds", in.MtimeNsec)
	case kind != modeDir && len(in.Entries) > 0:
		return invalid("entries in what is not a directory")
	case kind != modeSymlink && in.Target != "":
		return invalid("a target in what is not a symbolic link")
	}
	if err := sortXattrs(in.Xattrs); err != nil {
		return err
	}
	switch kind {
	case modeRegular:
		if in.Size < 0 {
			return invalid("a size of %d bytes", in.Size)
		}
	case modeSymlink:
		if n := len(in.Target); n == 0 || n > maxTargetBytes || strings.IndexByte(in.Target, 0) >= 0 {
			return invalid("a symbolic link's target of %d bytes, or with a zero byte", n)
		}
		in.Size = int64(len(in.Target))
	case modeDir:
		if err := sortEntries(in.Entries); err != nil {
			return err
		}
		in.Size = dirBytes(in)
	default:
		in.Size = 0
	}
	in.plan, in.nlink = p, 0
	return nil
}

func sortEntries(entries []Entry) error {
	for _, e := range entries {
		if n := len(e.Name); n == 0 || n > maxNameBytes || e.Name == "." || e.Name == ".." ||
			strings.ContainsAny(e.Name, "/\x00") {
			return invalid("%.300q can't be a name", e.Name)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(entries); i++ {
		if entries[i].Name == entries[i-1].Name {
			return invalid("the name %q occurs twice", entries[i].Name)
		}
	}
	return nil
}

// place gives the inode, and what is stored with it, its place.
func (p *Plan) place(in *Inode) {
	head := inodeBytes + xattrBytes(in.Xattrs)
	at := p.room.take(head + in.inlineBytes())
	in.nid = uint32(at / slotBytes)
	if !in.IsRegular() {
		in.Block = p.room.takeBlocks((in.Size - in.inlineBytes() + blockBytes - 1) / blockBytes)
	}
	p.order = append(p.order, in)
}

// inlineBytes returns how many of the last bytes of a directory or symbolic
// link stand behind its inode: those after the last whole block, if inode,
// attributes and they fit into one block, as they must not cross its end.
func (in *Inode) inlineBytes() int64 {
	if in.IsRegular() {
		return 0
	}
	tail := in.Size % blockBytes
	if inodeBytes+xattrBytes(in.Xattrs)+tail > blockBytes {
		return 0
	}
	return tail
}

// MetaBlocks returns the number of blocks that the metadata takes: the first
// block at which data may lie.
func (p *Plan) MetaBlocks() uint32 { return uint32(p.room.blocks()) }

// Inodes returns the number of inodes in the tree.
func (p *Plan) Inodes() int { return len(p.order) }

// room hands out the bytes of the metadata in ascending order, but for the
// last hole that it left at the end of a block: small things go there first.
type room struct {
	next             int64
	holeAt, holeSize int64
}

// take returns the place of n bytes at a slot. Up to a block's length they lie
// in one block; longer ones begin a block.
func (r *room) take(n int64) int64 {
	n = roundUp(n, slotBytes)
	if n <= r.holeSize {
		at := r.holeAt
		r.holeAt += n
		r.holeSize -= n
		return at
	}
	if left := roundUp(r.next, blockBytes) - r.next; left > 0 && n > left {
		r.skip()
	}
	at := r.next
	r.next += n
	return at
}

// takeBlocks returns the first of n whole blocks, 0 if n is 0.
func (r *room) takeBlocks(n int64) uint32 {
	if n == 0 {
		return 0
	}
	r.skip()
	at := r.next / blockBytes
	r.next += n * blockBytes
	return uint32(at)
}

// skip goes to the next block and remembers the hole.
func (r *room) skip() {
	end := roundUp(r.next, blockBytes)
	if end > r.next {
		r.holeAt, r.holeSize = r.next, end-r.next
	}
	r.next = end
}

func (r *room) blocks() int64 { return roundUp(r.next, blockBytes) / blockBytes }
