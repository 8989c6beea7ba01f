// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/binary"
	"math"
)

// Sizes of the parts, in bytes. All pages of a level but the last are full, so
// the place of every page follows from the number of chunks alone.
const (
	pageHeadBytes  = 16 // level, 0, count, number, first block, end block
	leafEntryBytes = 40 // name, sealed bytes, blocks, domain, 0
	leafKeyBytes   = 32
	nodeEntryBytes = 36 // hash of the child, its first block

	maxNodeBytes = pageHeadBytes + PageChunks*nodeEntryBytes
	maxLeafBytes = pageHeadBytes + PageChunks*(leafEntryBytes+leafKeyBytes) + SealOverhead

	// firstReadBytes is what Open reads at once: the largest head and a full
	// root page, so that opening is one request.
	firstReadBytes = maxHeadBytes + maxNodeBytes
)

// pageID names a page: level 0 are the leaves, the highest level is the root.
type pageID struct {
	level  uint8
	number uint32
}

// layout is where the pages of a manifest with so many chunks lie. The root
// comes directly after the head, then each lower level in turn, leaves last.
type layout struct {
	chunks int
	pages  []uint32 // pages in each level, from the leaves up; the last is 1
	start  []int64  // offset of each level's first page
	end    int64    // size of the manifest
}

func newLayout(chunks int, headBytes int64) layout {
	l := layout{chunks: chunks, pages: []uint32{pagesFor(chunks)}}
	for len(l.pages) == 1 || l.pages[len(l.pages)-1] > 1 {
		l.pages = append(l.pages, pagesFor(int(l.pages[len(l.pages)-1])))
	}
	l.start = make([]int64, len(l.pages))
	off := headBytes
	for level := len(l.pages) - 1; level >= 0; level-- {
		l.start[level] = off
		last := pageID{uint8(level), l.pages[level] - 1}
		off += int64(last.number)*int64(pageBytes(last.level, PageChunks)) + int64(l.bytes(last))
	}
	l.end = off
	return l
}

func pagesFor(n int) uint32 { return uint32((n + PageChunks - 1) / PageChunks) }

func (l layout) root() pageID { return pageID{level: uint8(len(l.pages) - 1)} }

// count is the number of entries in a page.
func (l layout) count(p pageID) int {
	below := l.chunks
	if p.level > 0 {
		below = int(l.pages[p.level-1])
	}
	return min(PageChunks, below-int(p.number)*PageChunks)
}

func (l layout) bytes(p pageID) int { return pageBytes(p.level, l.count(p)) }

func (l layout) offset(p pageID) int64 {
	return l.start[p.level] + int64(p.number)*int64(pageBytes(p.level, PageChunks))
}

func pageBytes(level uint8, count int) int {
	if level == 0 {
		return pageHeadBytes + count*(leafEntryBytes+leafKeyBytes) + SealOverhead
	}
	return pageHeadBytes + count*nodeEntryBytes
}

// span is a range of blocks [first, end).
type span struct{ first, end uint32 }

func appendPageHead(dst []byte, p pageID, count int, s span) []byte {
	dst = append(dst, p.level, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(count))
	dst = binary.BigEndian.AppendUint32(dst, p.number)
	dst = binary.BigEndian.AppendUint32(dst, s.first)
	return binary.BigEndian.AppendUint32(dst, s.end)
}

// maxImageBlocks is the largest address space, in blocks: numbers and ends of
// blocks fit 32 bits.
const maxImageBlocks = math.MaxUint32
