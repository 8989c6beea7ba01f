// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"thaw.dev/thaw"
)

// Reader reads images that [Plan.Encode] began. It is strict: whatever the
// writer would not have written is [thaw.Corrupt], also where the kernel would
// take it. It trusts nothing that it reads: a malformed image never makes it
// panic, loop, or allocate more than a small multiple of one block or of one
// inode's attributes. It is safe for concurrent use if its source is.
type Reader struct {
	src    io.ReaderAt
	size   int64 // of the source, in bytes
	blocks uint32
	inodes uint64
	root   uint64
}

// Node is an inode as it was read.
type Node struct {
	NID       uint64 // its number: the offset in the image by 32
	Mode      uint32 // as in st_mode
	UID, GID  uint32
	Mtime     int64
	MtimeNsec uint32
	Nlink     uint32
	Rdev      uint32 // devices
	Size      int64  // bytes of content
	Block     uint32 // the first block of the content, if it has whole blocks
	Target    string // symbolic links
	Xattrs    []Xattr

	inlineAt    int64 // of the tail in the image
	inlineBytes int64
}

// IsDir reports whether the node is a directory.
func (n *Node) IsDir() bool { return n.Mode&modeType == modeDir }

// IsRegular reports whether the node is a regular file.
func (n *Node) IsRegular() bool { return n.Mode&modeType == modeRegular }

// NewReader checks the superblock of the image of size bytes in src. It fails
// with [thaw.Corrupt], or with what src fails with.
func NewReader(src io.ReaderAt, size int64) (*Reader, error) {
	const op = "erofs: open"
	r := &Reader{src: src, size: size}
	block := make([]byte, blockBytes)
	if err := r.read(block, 0); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	le, s := binary.LittleEndian, block[superOffset:]
	sum := le.Uint32(s[superChecksumAt:])
	clear(s[superChecksumAt:superCompatAt])
	switch {
	case le.Uint32(s) != superMagic:
		return nil, thaw.Errorf(op, thaw.Corrupt, "no EROFS superblock")
	case sum != superChecksum(s):
		return nil, thaw.Errorf(op, thaw.Corrupt, "the superblock's checksum is %08x, not %08x", superChecksum(s), sum)
	case s[superBlockBitsAt] != blockBits:
		return nil, thaw.Errorf(op, thaw.Corrupt, "blocks of 2^%d bytes", s[superBlockBitsAt])
	case le.Uint32(s[superCompatAt:]) != superCompatWanted || le.Uint32(s[superIncompatAt:]) != 0 ||
		s[superExtSlotsAt] != 0 || s[superDirBitsAt] != 0 || s[superXattrPfxAt] != 0 ||
		le.Uint16(s[superDevicesAt:]) != 0 || le.Uint64(s[superPackedNidAt:]) != 0 ||
		le.Uint32(s[superMetaAt:]) != 0 || le.Uint32(s[superXattrAt:]) != 0 ||
		le.Uint64(s[superBuildTimeAt:]) != 0 || le.Uint32(s[superBuildNsecAt:]) != 0:
		return nil, thaw.Errorf(op, thaw.Corrupt, "an EROFS image with features that thaw does not write")
	}
	r.blocks = le.Uint32(s[superBlocksAt:])
	r.inodes = le.Uint64(s[superInodesAt:])
	r.root = uint64(le.Uint16(s[superRootAt:]))
	if int64(r.blocks)*blockBytes > size {
		return nil, thaw.Errorf(op, thaw.Corrupt, "%d bytes can't hold an image of %d blocks", size, r.blocks)
	}
	return r, nil
}

// Blocks returns the number of blocks of the image.
func (r *Reader) Blocks() uint32 { return r.blocks }

// Inodes returns the number of inodes that the superblock promises.
func (r *Reader) Inodes() uint64 { return r.inodes }

// Root returns the root directory.
func (r *Reader) Root() (*Node, error) {
	n, err := r.Node(r.root)
	if err == nil && !n.IsDir() {
		err = corrupt("the root is not a directory")
	}
	if err != nil {
		return nil, thaw.Wrap("erofs: root", err)
	}
	return n, nil
}

// Lookup returns the node of a path of names joined by slashes; empty ones
// are skipped. It follows no symbolic link. Where there is none it fails with
// [thaw.NotFound].
func (r *Reader) Lookup(path string) (*Node, error) {
	op := "erofs: look up " + path
	n, err := r.Root()
	for name := range strings.SplitSeq(path, "/") {
		if err != nil {
			break
		}
		if name != "" {
			n, err = r.child(n, name)
		}
	}
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	return n, nil
}

func (r *Reader) child(dir *Node, name string) (*Node, error) {
	if !dir.IsDir() {
		return nil, thaw.Errorf("", thaw.NotFound, "what should hold %q is not a directory", name)
	}
	for e, err := range r.Entries(dir) {
		if err != nil {
			return nil, err
		}
		if e.Name == name {
			return r.entryNode(e)
		}
	}
	return nil, thaw.Errorf("", thaw.NotFound, "there is no %q", name)
}

// entryNode returns the node that an entry names, if it is of its type.
func (r *Reader) entryNode(e DirEntry) (*Node, error) {
	n, err := r.Node(e.NID)
	if err == nil && direntType(n.Mode) != e.Type {
		err = corrupt("the entry %q says type %d, its inode mode %#o", e.Name, e.Type, n.Mode)
	}
	return n, err
}

// Open returns the content of a regular file.
func (r *Reader) Open(n *Node) (*io.SectionReader, error) {
	if !n.IsRegular() {
		return nil, thaw.Errorf("erofs: open", thaw.Invalid, "node %d is not a regular file", n.NID)
	}
	return io.NewSectionReader(r.src, int64(n.Block)*blockBytes, n.Size), nil
}

// read fills p from the image.
func (r *Reader) read(p []byte, at int64) error {
	if at < 0 || at > r.size-int64(len(p)) {
		return corrupt("%d bytes at offset %d are outside the image", len(p), at)
	}
	n, err := r.src.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("the image ends in the %d bytes at offset %d", len(p), at)
	}
	return err
}

func corrupt(format string, args ...any) error {
	return thaw.Errorf("", thaw.Corrupt, format, args...)
}
