// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"encoding/binary"

	"thaw.dev/thaw"
)

// Node reads the inode of that number. It fails with [thaw.Corrupt] if there
// can be none or it is not as the writer makes them.
func (r *Reader) Node(nid uint64) (*Node, error) {
	n, err := r.node(nid)
	if err != nil {
		return nil, thaw.Wrap("erofs: read inode", err)
	}
	return n, nil
}

func (r *Reader) node(nid uint64) (*Node, error) {
	if nid > uint64(r.size)/slotBytes {
		return nil, corrupt("inode %d is outside the image", nid)
	}
	at := int64(nid) * slotBytes
	var raw [inodeBytes]byte
	if at < superOffset+superBytes {
		return nil, corrupt("inode %d lies in the superblock", nid)
	}
	if err := r.read(raw[:], at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	n := &Node{
		NID: nid, Mode: uint32(le.Uint16(raw[inodeModeAt:])), Size: int64(le.Uint64(raw[inodeSizeAt:])),
		UID: le.Uint32(raw[inodeUIDAt:]), GID: le.Uint32(raw[inodeGIDAt:]),
		Mtime: int64(le.Uint64(raw[inodeMtimeAt:])), MtimeNsec: le.Uint32(raw[inodeMtimeNsecAt:]),
		Nlink: le.Uint32(raw[inodeNlinkAt:]),
	}
	xattrs := xattrArea(le.Uint16(raw[inodeXattrsAt:]))
	n.inlineAt = at + inodeBytes + xattrs
	switch format := le.Uint16(raw[inodeFormatAt:]); {
	case direntType(n.Mode) == 0 || n.MtimeNsec > maxNsec || n.Nlink == 0 || n.Size < 0:
		return nil, corrupt("inode %d has mode %#o, %d nanoseconds, %d links and %d bytes", nid, n.Mode, n.MtimeNsec, n.Nlink, n.Size)
	case format == formatInline:
		n.inlineBytes = n.Size % blockBytes
	case format != formatPlain:
		return nil, corrupt("inode %d has the format %#x, which thaw does not write", nid, format)
	}
	if err := r.place(n, le.Uint32(raw[inodeBlockAt:])); err != nil {
		return nil, err
	}
	if err := r.readXattrs(n, at+inodeBytes, xattrs); err != nil {
		return nil, err
	}
	return n, r.readTarget(n)
}

// place takes the inode's block or device number and checks that the content
// lies in the image.
func (r *Reader) place(n *Node, number uint32) error {
	full := n.Size / blockBytes // without adding first: a size may be anything
	if n.Size%blockBytes > n.inlineBytes {
		full++
	}
	tailInBlock := n.inlineAt/blockBytes == (n.inlineAt+n.inlineBytes-1)/blockBytes
	inline := n.inlineBytes > 0
	switch n.Mode & modeType {
	case modeRegular:
		if inline {
			return corrupt("inode %d is a file with inline data", n.NID)
		}
	case modeDir, modeSymlink:
		if n.Size == 0 || inline && !tailInBlock || n.inlineAt+n.inlineBytes > r.size {
			return corrupt("inode %d has %d bytes that can't stand behind it", n.NID, n.Size)
		}
		if !n.IsDir() && n.Size > maxTargetBytes {
			return corrupt("inode %d is a symbolic link of %d bytes", n.NID, n.Size)
		}
	case modeChar, modeBlock:
		n.Rdev, number = number, 0
	}
	if kind := n.Mode & modeType; kind != modeRegular && kind != modeDir && kind != modeSymlink && n.Size != 0 {
		return corrupt("inode %d is a special file of %d bytes", n.NID, n.Size)
	}
	if full == 0 && number != 0 || full > int64(r.blocks)-int64(number) {
		return corrupt("inode %d has %d blocks at block %d of %d", n.NID, full, number, r.blocks)
	}
	n.Block = number
	return nil
}

func xattrArea(count uint16) int64 {
	if count == 0 {
		return 0
	}
	return xattrHeadBytes + 4*(int64(count)-1)
}

func (r *Reader) readXattrs(n *Node, at, size int64) error {
	if size == 0 {
		return nil
	}
	area := make([]byte, size) // at most maxXattrBytes
	if err := r.read(area, at); err != nil {
		return err
	}
	if !allZero(area[:xattrHeadBytes]) || size == xattrHeadBytes {
		return corrupt("inode %d has attributes that thaw does not write", n.NID)
	}
	for rest := area[xattrHeadBytes:]; len(rest) > 0; {
		nameLen, valueLen := int(rest[0]), int(binary.LittleEndian.Uint16(rest[2:]))
		used := xattrEntryBytes + nameLen + valueLen
		whole := int(roundUp(int64(used), 4))
		if whole > len(rest) || !allZero(rest[used:whole]) {
			return corrupt("inode %d has an attribute that its area can't hold", n.NID)
		}
		suffix := rest[xattrEntryBytes:][:nameLen]
		name, ok := xattrName(rest[1], string(suffix))
		last := len(n.Xattrs) - 1
		if !ok || bytes.IndexByte(suffix, 0) >= 0 || last >= 0 && n.Xattrs[last].Name >= name {
			return corrupt("inode %d has an attribute with a bad name or out of order", n.NID)
		}
		n.Xattrs = append(n.Xattrs, Xattr{name, rest[xattrEntryBytes+nameLen : used : used]})
		rest = rest[whole:]
	}
	return nil
}

func (r *Reader) readTarget(n *Node) error {
	if n.Mode&modeType != modeSymlink {
		return nil
	}
	at := int64(n.Block) * blockBytes
	if n.inlineBytes > 0 {
		at = n.inlineAt
	}
	target := make([]byte, n.Size) // at most maxTargetBytes
	if err := r.read(target, at); err != nil {
		return err
	}
	if bytes.IndexByte(target, 0) >= 0 {
		return corrupt("inode %d is a symbolic link with a zero byte", n.NID)
	}
	n.Target = string(target)
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
