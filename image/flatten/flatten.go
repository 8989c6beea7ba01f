// SPDX-License-Identifier: Apache-2.0

// Package flatten turns the layers of a container image into the one tree that
// they mean. It knows the tar formats, the order of layers, OCI whiteouts and
// how names resolve; it knows nothing of networks, ciphers, chunks or stores,
// and starts no goroutine.
//
// It works in two steps, so that a layer streams by once. [Scan] reads one
// layer's tar from front to back, keeps what its headers say in a compact list
// and hands the bytes of its files to the caller as they pass. [Merge] then
// applies the lists, bottom layer first, to one tree in memory, which is
// exactly the tree that `umoci unpack` makes as root:
//
//   - the last entry for a name wins; a directory over a directory keeps what is
//     in it and takes the new mode, owner, time and attributes; any other entry
//     over anything replaces it with all that is below;
//   - ".wh.x" deletes x, ".wh..wh..opq" everything in its directory, but both
//     only what lower layers made, wherever in their tar they stand;
//   - a symbolic link in the directory part of a name is followed, never out of
//     the tree: an absolute target begins at its root, and ".." stops there;
//   - a hard link is another name of the inode that its target is at that
//     moment, from whichever layer, a symbolic link itself included;
//   - names are cleaned lexically first, as "a/../b" to "b", and a slash at
//     their front, or at the front of a hard link's target, means nothing;
//   - attributes that overlayfs made ("trusted.overlay.", "user.overlay.") are
//     dropped, and so are AUFS's own files at the root (".wh..wh.").
//
// Where umoci depends on the time of day or the umask, flatten does not: a
// directory that no entry describes has mode 0755, owner 0:0 and time 0 (and
// the group of a set-group-id parent, but never its default access list), and a
// directory's time is never moved by what happens in it. Where umoci would
// quietly move a name that leaves the tree, flatten refuses it.
package flatten

import (
	"thaw.dev/thaw"
	"thaw.dev/thaw/format/erofs"
)

const (
	// DefaultMaxEntries bounds the entries of one image, all layers together.
	// The kernel trees and texlive of this world have 300,000 files; at the
	// bound the lists alone need about 1 GB.
	DefaultMaxEntries = 4 << 20

	maxNameBytes   = 4095 // PATH_MAX of Linux without its final zero
	maxBaseBytes   = 255  // NAME_MAX
	maxXattrBytes  = 64<<10 - 1
	maxXattrsBytes = 64 << 10 // of one file together, as the kernel's list
	maxSymlinks    = 255      // followed for one name, as umoci does
	maxSteps       = 1 << 27  // names looked up for one image, against tangles of links
)

// Tree is a flattened image, ready for [erofs.NewPlan].
type Tree struct {
	Root  *erofs.Inode
	Files []File // the regular files that have bytes, in bytewise order of Path; Inode.Ref indexes it
	Count Count
}

// File is a regular file with bytes, under the first of its names.
type File struct {
	Path    string // without a leading slash
	Inode   *erofs.Inode
	Layer   int // index of the layer that supplied the bytes
	Ordinal int // which of that layer's files: see [FileHeader]
}

// Count says how many of what a tree has.
type Count struct {
	Files int64 // regular files, each inode once
	Dirs  int64 // the root included
	Links int64 // symbolic links, and further names of a regular file
}

// op names the work on a layer in errors.
func op(layer string) string { return "flatten layer " + layer }

func invalid(layer, entry, format string, args ...any) error {
	args = append([]any{entry}, args...)
	return thaw.Errorf(op(layer), thaw.Invalid, "entry %.300q "+format, args...)
}
