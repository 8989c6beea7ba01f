// SPDX-License-Identifier: Apache-2.0

package tmpdisk

import (
	"encoding/binary"
	"time"
)

// The file system is ext4 in blocks of 4 KiB. Nobody needs its journal after a
// crash; but without one ext4 uses no inode of a deleted file again for minutes,
// and looks past all of those at each new file. Only what
// differs from zero is written: the block groups but the first and the last are
// marked as not initialized, and a checksum of each group's descriptor makes the kernel
// trust that mark (docs.kernel.org, filesystems/ext4).
const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // what one block of bitmap counts
	inodeSize      = 256
	inodesPerGroup = 8192 // one for 16 KiB, as mke2fs has it
	tableBlocks    = inodesPerGroup * inodeSize / blockSize
	groupBlocks    = 2 + tableBlocks // of each group: two bitmaps and the table of inodes
	descSize       = 32
	usedInodes     = 10 // the first ten are reserved; the root is one of them
	rootInode      = 2
	journalInode   = 8
	journalBlocks  = 1024 // the least that the kernel takes
)

// Features, as ext4 numbers them. Without resize_inode, lost+found and copies
// of the superblock, /tmp is empty and a disk has no block too many.
const (
	compatible   = 0x0004 | 0x0008 | 0x0020 | 0x0200          // has_journal, ext_attr, dir_index, sparse_super2
	incompatible = 0x0002 | 0x0040                            // filetype, extents
	readOnlyOnly = 0x0002 | 0x0008 | 0x0010 | 0x0020 | 0x0040 // large_file, huge_file, uninit_bg, dir_nlink, extra_isize
)

// uuid is the same in all file systems: a file system's bytes follow from its
// size and the time alone.
var uuid = [16]byte{'t', 'h', 'a', 'w', ' ', '/', 't', 'm', 'p', ' ', 'd', 'i', 's', 'k', 0, 1}

// geometry says where things are on a disk.
type geometry struct {
	blocks   int64 // of the whole
	groups   int64
	descs    int64 // blocks of group descriptors
	free     int64 // blocks that are free when it is new
	reserved int64 // of which the function gets none: room for metadata of what is being written
}

// layout returns the geometry of a disk that holds so many bytes of files.
func layout(bytes int64) geometry {
	// A file's own table of extents is paid by the disk, not by the function.
	const extents = 32
	data := (bytes + blockSize - 1) / blockSize
	g := geometry{reserved: min(4096, max(64, data/64))}
	g.blocks = data + extents + g.reserved
	for {
		g.groups = (g.blocks + blocksPerGroup - 1) / blocksPerGroup
		g.descs = (g.groups*descSize + blockSize - 1) / blockSize
		total := data + extents + g.reserved + g.groups*groupBlocks + g.common()
		if last := total % blocksPerGroup; last > 0 && last <= groupBlocks {
			total += groupBlocks + 1 - last // room for the last group's own blocks
		}
		if total == g.blocks {
			break
		}
		g.blocks = total
	}
	g.free = g.blocks - g.groups*groupBlocks - g.common()
	g.reserved = g.free - data - extents
	return g
}

// common returns the blocks of the first group that others do not have: the
// superblock, descriptors, the root folder, the journal.
func (g geometry) common() int64 { return 1 + g.descs + 1 + journalBlocks }

// size of the disk in bytes.
func (g geometry) size() int64 { return g.blocks * blockSize }

// blocksOf returns the blocks of a group.
func (g geometry) blocksOf(group int64) int64 {
	return min(blocksPerGroup, g.blocks-group*blocksPerGroup)
}

// bitmap returns the block of a group's bitmap of blocks. That of inodes, and
// the table, follow it.
func (g geometry) bitmap(group int64) int64 {
	if group == 0 {
		return 1 + g.descs
	}
	return group * blocksPerGroup
}

// usedOf returns how many of them are in use when the disk is new.
func (g geometry) usedOf(group int64) int64 {
	if group == 0 {
		return g.common() + groupBlocks
	}
	return groupBlocks
}

// piece is some bytes of a disk.
type piece struct {
	at   int64
	data []byte
}

// format returns all of a new file system that is not zero. Its root is the
// file system's user 0's, for everybody to write to, sticky.
func format(g geometry, now time.Time) []piece {
	bitmap := g.bitmap(0)
	root := bitmap + groupBlocks
	last := g.groups - 1 // its bitmap must be there: it may end early
	return []piece{
		{1024, superblock(g, now)},
		{g.bitmap(last) * blockSize, ones(g.usedOf(last), g.blocksOf(last))},
		{1 * blockSize, descriptors(g)},
		{bitmap * blockSize, ones(g.usedOf(0), g.blocksOf(0))},
		{(bitmap + 1) * blockSize, ones(usedInodes, inodesPerGroup)},
		{(bitmap+2)*blockSize + (rootInode-1)*inodeSize, inode(0o041777, root, 1, now)},
		{(bitmap+2)*blockSize + (journalInode-1)*inodeSize, inode(0o100600, root+1, journalBlocks, now)},
		{root * blockSize, rootDirectory()},
		{(root + 1) * blockSize, journal()},
	}
}

func superblock(g geometry, now time.Time) []byte {
	b := make([]byte, 1024)
	put32 := func(at int, v int64) { binary.LittleEndian.PutUint32(b[at:], uint32(v)) }
	put16 := func(at int, v int64) { binary.LittleEndian.PutUint16(b[at:], uint16(v)) }
	put32(0x00, g.groups*inodesPerGroup)
	put32(0x04, g.blocks)
	put32(0x0c, g.free)
	put32(0x10, g.groups*inodesPerGroup-usedInodes)
	put32(0x18, 2) // log2(block size) - 10
	put32(0x1c, 2) // and of a cluster
	put32(0x20, blocksPerGroup)
	put32(0x24, blocksPerGroup)
	put32(0x28, inodesPerGroup)
	put32(0x30, now.Unix()) // last write
	put16(0x36, 0xffff)     // no number of mounts asks for a check
	put16(0x38, 0xef53)
	put16(0x3a, 1)          // clean
	put16(0x3c, 2)          // on an error: read-only
	put32(0x40, now.Unix()) // last check
	put32(0x4c, 1)          // revision with features
	put32(0x54, usedInodes+1)
	put16(0x58, inodeSize)
	put32(0x5c, compatible)
	put32(0x60, incompatible)
	put32(0x64, readOnlyOnly)
	copy(b[0x68:], uuid[:])
	copy(b[0x78:], "tmp")
	put32(0xe0, journalInode)
	copy(b[0xec:], uuid[:]) // seed of the hashes of names
	b[0xfc] = 1             // half MD4
	b[0xfd] = 1             // what follows copies the journal's extents and size
	put16(0xfe, descSize)
	copy(b[0x10c:], inode(0, g.bitmap(0)+groupBlocks+1, journalBlocks, now)[0x28:0x28+60])
	put32(0x14c, journalBlocks*blockSize)
	put32(0x108, now.Unix()) // made
	put16(0x15c, 32)         // extra bytes of an inode: least
	put16(0x15e, 32)         // and wanted
	put32(0x160, 2)          // hashes are of unsigned characters
	return b
}

func descriptors(g geometry) []byte {
	b := make([]byte, g.groups*descSize)
	for group := range g.groups {
		d := b[group*descSize:][:descSize]
		put16 := func(at int, v int64) { binary.LittleEndian.PutUint16(d[at:], uint16(v)) }
		const noInodes, noBlocks, zeroed = 1, 2, 4
		first, inodes, flags := g.bitmap(group), int64(inodesPerGroup), int64(noInodes|noBlocks|zeroed)
		if group == g.groups-1 {
			flags = noInodes | zeroed
		}
		if group == 0 {
			inodes, flags = inodesPerGroup-usedInodes, zeroed
		}
		binary.LittleEndian.PutUint32(d[0:], uint32(first))
		binary.LittleEndian.PutUint32(d[4:], uint32(first+1))
		binary.LittleEndian.PutUint32(d[8:], uint32(first+2))
		put16(12, g.blocksOf(group)-g.usedOf(group))
		put16(14, inodes)
		if group == 0 {
			put16(16, 1) // folders
		}
		put16(18, flags)
		put16(28, inodes) // never used
		number := binary.LittleEndian.AppendUint32(nil, uint32(group))
		put16(30, int64(crc16(crc16(crc16(0xffff, uuid[:]), number), d[:30])))
	}
	return b
}

// ones returns a bitmap with the first used bits set, and those past all.
func ones(used, all int64) []byte {
	b := make([]byte, blockSize)
	for i := range int64(blocksPerGroup) {
		if i < used || i >= all {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

// inode returns that of a folder or file in so many blocks, from block on.
func inode(mode, block, blocks int64, now time.Time) []byte {
	b := make([]byte, inodeSize)
	put32 := func(at int, v int64) { binary.LittleEndian.PutUint32(b[at:], uint32(v)) }
	put16 := func(at int, v int64) { binary.LittleEndian.PutUint16(b[at:], uint16(v)) }
	put16(0x00, mode)
	put32(0x04, blocks*blockSize)
	for _, at := range []int{0x08, 0x0c, 0x10, 0x90} { // read, changed, written, made
		put32(at, now.Unix())
	}
	put16(0x1a, 1) // links
	if mode&0o040000 != 0 {
		put16(0x1a, 2)
	}
	put32(0x1c, blocks*blockSize/512) // sectors
	put32(0x20, 0x80000)              // has extents
	put16(0x28, 0xf30a)
	put16(0x2a, 1)      // extents
	put16(0x2c, 4)      // at most
	put16(0x38, blocks) // of the one extent; it begins at 0
	put32(0x3c, block)
	put16(0x80, 32) // extra bytes
	return b
}

// journal returns the first block of an empty journal.
func journal() []byte {
	b := make([]byte, blockSize)
	for at, v := range map[int]uint32{
		0: 0xc03b3998, 4: 4, // a superblock, version 2
		12: blockSize, 16: journalBlocks, 20: 1, // the first block that is logged to
		24: 1, // the first commit that is to be expected
		64: 1, // users
	} {
		binary.BigEndian.PutUint32(b[at:], v)
	}
	copy(b[48:], uuid[:])
	return b
}

func rootDirectory() []byte {
	b := make([]byte, blockSize)
	entry := func(at, length int, name string) {
		binary.LittleEndian.PutUint32(b[at:], rootInode)
		binary.LittleEndian.PutUint16(b[at+4:], uint16(length))
		b[at+6], b[at+7] = byte(len(name)), 2 // a folder
		copy(b[at+8:], name)
	}
	entry(0, 12, ".")
	entry(12, blockSize-12, "..")
	return b
}

// crc16 is the checksum of descriptors: polynomial 0x8005, bits reversed.
func crc16(crc uint16, data []byte) uint16 {
	for _, b := range data {
		crc ^= uint16(b)
		for range 8 {
			if crc&1 == 1 {
				crc = crc>>1 ^ 0xa001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
