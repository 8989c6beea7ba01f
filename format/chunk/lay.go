// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"thaw.dev/thaw"
)

const (
	// folderDepth is how many leading folders of a path name its group's
	// folder: the depth at which a distribution's packages and a language's
	// libraries part ("usr/lib/python3/dist-packages").
	folderDepth = 4

	// metaBlocks is the length of the chunks that metadata is cut into; see
	// CutMeta.
	metaBlocks = 64 << 10 / thaw.BlockBytes
)

// File is a regular file with bytes of its own: of several hard links, one.
type File struct {
	Path   string // without a leading slash, elements separated by single slashes
	Size   int64  // in bytes
	Domain uint8  // the caller's index of the domain that its bytes may be sealed in
}

// Layout places files in the address space of an image.
type Layout struct {
	Start   []uint32 // the first block of file i; 0 if it is empty
	Extents []Extent // ascending, covering the blocks up to End without a gap
	End     uint32   // the first block after the last file
}

// Lay places the data of files from block first on and cuts it into chunks.
//
// A file of at least [thaw.MaxChunkBytes] is cut by itself, every
// MaxChunkBytes from its own start, so that the same file makes the same
// chunks wherever it lies. Smaller files are grouped: a group holds files of
// one domain and of one folder (the first four elements of the path of their
// directory), in bytewise order of their paths. A group ends after a file whose base
// name's hash is, in proportion to its size, small enough, and before a file
// that would take it beyond MaxChunkBytes. As the end is found in the files,
// not by counting, adding, removing or changing one file changes the group
// that it is in and at most a few that follow it in its folder.
//
// The result depends on the set of files only, not on their order. Lay keeps
// nothing of files. Sizes that are negative, or that end beyond the 2^32
// blocks of an address space, are a mistake of the caller and panic; the limit
// of [thaw.MaxImageBytes] is far below.
func Lay(files []File, first uint32) Layout {
	order := layOrder(files)
	l := layer{files: files, start: make([]uint32, len(files)), next: uint64(first)}
	for i := 0; i < len(order); {
		end := i + 1
		for end < len(order) && order[end].sameGroup(order[i]) {
			end++
		}
		if order[i].large {
			l.cutLarge(order[i:end])
		} else {
			l.group(order[i:end])
		}
		i = end
	}
	return Layout{Start: l.start, Extents: l.extents, End: l.block()}
}

// place is a file with what decides where it goes.
type place struct {
	folder string
	index  int32
	domain uint8
	large  bool
}

func (p place) sameGroup(q place) bool {
	return p.large == q.large && p.domain == q.domain && p.folder == q.folder
}

// layOrder returns the files that have bytes in the order of their data: by
// folder, in it by domain, small before large, then by path.
func layOrder(files []File) []place {
	order := make([]place, 0, len(files))
	for i, f := range files {
		if f.Size < 0 {
			panic("chunk: Lay of a file of negative size")
		}
		if f.Size > 0 {
			order = append(order, place{folder: folderOf(f.Path), index: int32(i),
				domain: f.Domain, large: f.Size >= thaw.MaxChunkBytes})
		}
	}
	slices.SortFunc(order, func(a, b place) int {
		if c := cmp.Or(cmp.Compare(a.folder, b.folder), cmp.Compare(a.domain, b.domain)); c != 0 {
			return c
		}
		if a.large != b.large {
			if b.large {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(files[a.index].Path, files[b.index].Path), cmp.Compare(a.index, b.index))
	})
	return order
}

// folderOf returns the first folderDepth elements of the path of p's
// directory.
func folderOf(p string) string {
	dir := p[:max(strings.LastIndexByte(p, '/'), 0)]
	end := 0
	for range folderDepth {
		slash := strings.IndexByte(dir[end:], '/')
		if slash < 0 {
			return dir
		}
		end += slash + 1
	}
	return dir[:end-1]
}

// layer is the state of one Lay.
type layer struct {
	files   []File
	start   []uint32
	extents []Extent
	next    uint64 // the first block that is not yet taken
}

// block returns the next block as the 32-bit number that EROFS has for it.
func (l *layer) block() uint32 {
	if l.next > math.MaxUint32 {
		panic("chunk: Lay beyond 2^32 blocks")
	}
	return uint32(l.next)
}

func (l *layer) cutLarge(places []place) {
	for _, p := range places {
		l.start[p.index] = l.block()
		for left := blocksOf(l.files[p.index].Size); left > 0; {
			n := min(left, MaxBlocks)
			l.extents = append(l.extents, Extent{Block: l.block(), Blocks: uint32(n), Domain: p.domain})
			l.next += n
			left -= n
			l.block() // panics before extents of an absurd size fill the memory
		}
	}
}

func (l *layer) group(places []place) {
	open := Extent{Block: l.block(), Domain: places[0].domain}
	closeGroup := func() {
		if open.Blocks > 0 {
			l.extents = append(l.extents, open)
		}
		open.Block, open.Blocks = l.block(), 0
	}
	for _, p := range places {
		f := l.files[p.index]
		n := uint32(blocksOf(f.Size))
		if open.Blocks+n > MaxBlocks {
			closeGroup()
		}
		l.start[p.index] = l.block()
		l.next += uint64(n)
		open.Blocks += n
		if endsGroup(f.Path, n) {
			closeGroup()
		}
	}
	closeGroup()
}

// endsGroup decides from the base name whether a group ends after a file of
// that many blocks: with the probability blocks/MaxBlocks, so that groups have
// the same expected length whatever the size of the files in them. The base
// name, not the path, decides, so that a folder that was moved or that carries
// a version in its name is cut in the same places.
func endsGroup(path string, blocks uint32) bool {
	return nameHash(path[strings.LastIndexByte(path, '/')+1:])%MaxBlocks < uint64(blocks)
}

// nameHash is FNV-1a of 64 bits followed by the 64-bit finalizer of
// MurmurHash3, since FNV alone leaves the bits of short names badly mixed.
func nameHash(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func blocksOf(size int64) uint64 {
	return (uint64(size) + thaw.BlockBytes - 1) / thaw.BlockBytes
}

// CutMeta cuts the metadata at the front of an image, that many blocks, into
// chunks of 64 KiB, of domain 0: the caller knows which domain may see the
// names of the image's files. The cut is finer than the data's because a start
// looks names up here and there: see docs/format/chunk.md for the figures.
func CutMeta(blocks uint32) []Extent {
	extents := make([]Extent, 0, (uint64(blocks)+metaBlocks-1)/metaBlocks)
	for at := uint32(0); at < blocks; {
		n := min(blocks-at, metaBlocks)
		extents = append(extents, Extent{Block: at, Blocks: n})
		at += n
	}
	return extents
}
