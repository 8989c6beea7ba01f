// SPDX-License-Identifier: Apache-2.0

package erofs

import "thaw.dev/thaw"

// The on-disk layout, as in the kernel's fs/erofs/erofs_fs.h. All numbers are
// little-endian.
const (
	blockBytes = thaw.BlockBytes
	blockBits  = 12

	superOffset = 1024 // of the superblock in the image
	superBytes  = 128
	superMagic  = 0xE0F5E1E2

	// The fields of the superblock, relative to superOffset.
	superChecksumAt   = 4
	superCompatAt     = 8
	superBlockBitsAt  = 12
	superExtSlotsAt   = 13
	superRootAt       = 14
	superInodesAt     = 16
	superBlocksAt     = 36
	superMetaAt       = 40
	superXattrAt      = 44
	superUUIDAt       = 48
	superIncompatAt   = 80
	superDevicesAt    = 86
	superDirBitsAt    = 90
	superXattrPfxAt   = 91
	superPackedNidAt  = 96
	superBuildTimeAt  = 24
	superBuildNsecAt  = 32
	compatChecksum    = 1
	compatMtime       = 2
	superCompatWanted = compatChecksum | compatMtime

	slotBytes  = 32 // the unit of a nid
	inodeBytes = 64 // an extended inode

	// The fields of an extended inode.
	inodeFormatAt    = 0
	inodeXattrsAt    = 2
	inodeModeAt      = 4
	inodeSizeAt      = 8
	inodeBlockAt     = 16 // or the device number
	inodeNumberAt    = 20
	inodeUIDAt       = 24
	inodeGIDAt       = 28
	inodeMtimeAt     = 32
	inodeMtimeNsecAt = 40
	inodeNlinkAt     = 44

	formatPlain  = 0<<1 | 1 // all data in blocks; extended
	formatInline = 2<<1 | 1 // the tail of the data behind the inode; extended

	direntBytes = 12 // nid, offset of the name, type, one byte unused

	xattrHeadBytes  = 12 // before the extended attributes of an inode
	xattrEntryBytes = 4  // before the name and value of one
)

// The limits of what can be written.
const (
	maxNameBytes       = 255
	maxTargetBytes     = 4095
	maxXattrValueBytes = 1<<16 - 1
	maxXattrBytes      = xattrHeadBytes + 4*(1<<16-2) // of one inode
	maxNsec            = 1e9 - 1

	// maxPathBytes bounds a path in an image. Linux takes paths of 4,095 bytes
	// in one call; the limit only keeps the work for a hostile tree bounded.
	maxPathBytes = 1<<16 - 1
)

// imageUUID is the same in all images: equal trees give equal bytes, and
// nothing looks images up by it. It is a UUID of version 8 (RFC 9562).
const imageUUID = "thaw" + "\x00\x00" + "\x80\x01" + "\x80\x00" + "erofs\x00"

// The types of a mode, as in <sys/stat.h>.
const (
	modeType    = 0o170000
	modeFIFO    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modeSocket  = 0o140000
)

// direntType returns the type byte of a directory entry, 0 for an unknown type.
func direntType(mode uint32) byte {
	switch mode & modeType {
	case modeRegular:
		return 1
	case modeDir:
		return 2
	case modeChar:
		return 3
	case modeBlock:
		return 4
	case modeFIFO:
		return 5
	case modeSocket:
		return 6
	case modeSymlink:
		return 7
	}
	return 0
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
