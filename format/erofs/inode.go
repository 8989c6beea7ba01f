// SPDX-License-Identifier: Apache-2.0

// Package erofs writes and reads the metadata of uncompressed EROFS images,
// the read-only file system of the Linux kernel. It knows the on-disk layout
// and nothing of container images, chunks or keys. The writer is pure: the
// same tree gives the same bytes on every machine. All metadata and directories
// stand at the front; the data of files follows, at whole blocks that the
// caller chooses, and is never inline. The page docs/format/erofs.md says what
// is written and why.
package erofs

// Inode is one file, directory, symbolic link or special file of a tree. The
// caller fills the exported fields and passes the root to [NewPlan], which
// takes the tree over.
type Inode struct {
	Mode      uint32 // type and permissions as in st_mode: S_IFMT | 07777
	UID, GID  uint32
	Mtime     int64  // seconds since 1970
	MtimeNsec uint32 // below 1e9
	Rdev      uint32 // devices: as in st_rdev of Linux, major below 4096, minor below 2^20
	Size      int64  // regular files: bytes. Of others NewPlan sets it.
	Target    string // symbolic links: 1 to 4095 bytes
	Xattrs    []Xattr
	Entries   []Entry // directories: without "." and "..", in any order; NewPlan sorts them
	Block     uint32  // regular files with bytes: the first data block, set by the caller between NewPlan and Encode; for others NewPlan sets it
	Ref       int32   // the caller's own, not looked at

	plan   *Plan  // the plan that numbered this inode
	parent *Inode // directories: the one that holds it; the root holds itself
	nid    uint32 // offset in the image in units of slotBytes
	nlink  uint32
}

// Entry is a name in a directory. Hard links are entries with the same Inode.
type Entry struct {
	Name  string // 1 to 255 bytes without '/' and NUL, not "." or ".."
	Inode *Inode
}

// Xattr is an extended attribute with its full name: "user.x",
// "security.capability", "trusted.x", "system.posix_acl_access" or
// "system.posix_acl_default".
type Xattr struct {
	Name  string
	Value []byte // at most 65,535 bytes
}

// IsDir reports whether the inode is a directory.
func (in *Inode) IsDir() bool { return in.Mode&modeType == modeDir }

// IsRegular reports whether the inode is a regular file.
func (in *Inode) IsRegular() bool { return in.Mode&modeType == modeRegular }
