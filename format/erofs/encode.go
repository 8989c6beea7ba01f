// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"encoding/binary"
	"hash/crc32"

	"thaw.dev/thaw"
)

// Encode returns the metadata of the image: MetaBlocks blocks, from the
// image's first byte on. totalBlocks is the length of the whole image. Every
// regular file with bytes must by now have a Block at or after MetaBlocks and
// end within totalBlocks, else Encode fails with [thaw.Invalid]. The caller
// owns the result.
func (p *Plan) Encode(totalBlocks uint32) ([]byte, error) {
	const op = "erofs: encode"
	if p.root.plan != p {
		return nil, thaw.Errorf(op, thaw.Invalid, "the tree has got another plan since")
	}
	if totalBlocks < p.MetaBlocks() {
		return nil, thaw.Errorf(op, thaw.Invalid, "an image of %d blocks with %d of metadata", totalBlocks, p.MetaBlocks())
	}
	image := make([]byte, int64(p.MetaBlocks())*blockBytes)
	for i, in := range p.order {
		if in.IsRegular() && !p.holds(in, totalBlocks) {
			return nil, thaw.Errorf(op, thaw.Invalid,
				"file %d of %d bytes at block %d is not in the data of an image of %d blocks", i, in.Size, in.Block, totalBlocks)
		}
		putInode(image[int64(in.nid)*slotBytes:], in, uint32(i+1))
		putData(image, in)
	}
	p.putSuper(image, totalBlocks)
	return image, nil
}

// holds reports whether the file's blocks are among the data.
func (p *Plan) holds(in *Inode, totalBlocks uint32) bool {
	if in.Size == 0 {
		return true
	}
	room := (int64(totalBlocks) - int64(in.Block)) * blockBytes
	return in.Block >= p.MetaBlocks() && in.Size <= room
}

// putInode writes the inode and its attributes. number is what a 32-bit stat
// shows.
func putInode(dst []byte, in *Inode, number uint32) {
	le := binary.LittleEndian
	format, place := uint16(formatPlain), in.Block
	if in.inlineBytes() > 0 {
		format = formatInline
	}
	switch in.Mode & modeType {
	case modeChar, modeBlock:
		place = in.Rdev
	case modeRegular:
		if in.Size == 0 {
			place = 0
		}
	}
	size := xattrBytes(in.Xattrs)
	le.PutUint16(dst[inodeFormatAt:], format)
	le.PutUint16(dst[inodeXattrsAt:], xattrCount(size))
	le.PutUint16(dst[inodeModeAt:], uint16(in.Mode))
	le.PutUint64(dst[inodeSizeAt:], uint64(in.Size))
	le.PutUint32(dst[inodeBlockAt:], place)
	le.PutUint32(dst[inodeNumberAt:], number)
	le.PutUint32(dst[inodeUIDAt:], in.UID)
	le.PutUint32(dst[inodeGIDAt:], in.GID)
	le.PutUint64(dst[inodeMtimeAt:], uint64(in.Mtime))
	le.PutUint32(dst[inodeMtimeNsecAt:], in.MtimeNsec)
	le.PutUint32(dst[inodeNlinkAt:], in.nlink)
	putXattrs(dst[inodeBytes:inodeBytes+size], in.Xattrs)
}

// putData writes what a directory or symbolic link holds, the whole blocks to
// its blocks and the tail behind its inode or to the last block.
func putData(image []byte, in *Inode) {
	inline := in.inlineBytes()
	inlineAt := int64(in.nid)*slotBytes + inodeBytes + xattrBytes(in.Xattrs)
	blockAt := int64(in.Block) * blockBytes
	switch in.Mode & modeType {
	case modeSymlink:
		if inline > 0 {
			blockAt = inlineAt
		}
		copy(image[blockAt:], in.Target)
	case modeDir:
		left := in.Size
		putDirents(in, func(n int) []byte {
			at := blockAt
			if left <= inline {
				at = inlineAt
			}
			blockAt += blockBytes
			left -= int64(n)
			return image[at : at+int64(n)]
		})
	}
}

// putSuper writes the superblock. Its checksum covers the rest of its block,
// so it comes last.
func (p *Plan) putSuper(image []byte, totalBlocks uint32) {
	le := binary.LittleEndian
	s := image[superOffset:blockBytes]
	le.PutUint32(s, superMagic)
	le.PutUint32(s[superCompatAt:], superCompatWanted)
	s[superBlockBitsAt] = blockBits
	le.PutUint16(s[superRootAt:], uint16(p.root.nid))
	le.PutUint64(s[superInodesAt:], uint64(len(p.order)))
	le.PutUint32(s[superBlocksAt:], totalBlocks)
	copy(s[superUUIDAt:], imageUUID)
	le.PutUint32(s[superChecksumAt:], superChecksum(s))
}

// superChecksum returns the checksum of a superblock's bytes up to the end of
// its block, whose field for it is zero: crc32c as the kernel has it, without
// the final inversion.
func superChecksum(s []byte) uint32 {
	return ^crc32.Checksum(s, crc32.MakeTable(crc32.Castagnoli))
}
