// SPDX-License-Identifier: Apache-2.0

package tmpdisk

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// fallbackBytes is what stands in for a disk that the host has no room for: so
// small that it may count as the function's memory.
const (
	fallbackBytes = 1 << 20
	fallbackFiles = 1024
)

// dirtyBytes is how much must stand on a disk for its end to be hastened:
// that has the kernel print a line.
const dirtyBytes = 4 << 20

// Disk is the /tmp of one sandbox. It belongs to one goroutine at a time.
type Disk struct {
	store  *Store
	file   *os.File // what holds it on the host, without a name; nil of a fallback
	device string   // its loop device
	root   *os.File // its mount, attached nowhere until a sandbox has it
	dir    *os.File // its root folder
	shape  geometry
	closed bool // tap: the function may not write
	owner  string

	failing bool // the tap could not be turned, which is logged once
}

// write makes file a disk with an empty file system. The host gives the first
// group's own blocks and the journal now: without them a file system would not
// outlive that the host's disk is full.
func write(file *os.File, g geometry, now time.Time) error {
	if err := file.Truncate(g.size()); err != nil {
		return err
	}
	own := g.usedOf(0) * blockSize
	if err := unix.Fallocate(int(file.Fd()), 0, 0, own); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	for _, p := range format(g, now) {
		if _, err := file.WriteAt(p.data, p.at); err != nil {
			return err
		}
	}
	return nil
}

// make makes a disk that holds so many bytes.
func (s *Store) make(bytes int64) (_ *Disk, err error) {
	d := &Disk{store: s, shape: layout(bytes)}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.file, err = nameless(s.config.Dir); err != nil {
		return nil, err
	}
	if err = write(d.file, d.shape, time.Now()); err != nil {
		return nil, err
	}
	device, name, err := loopDevice(d.file)
	if err != nil {
		return nil, err
	}
	defer device.Close() // the mount keeps it
	d.device = name
	if d.root, err = mountDevice(name); err != nil {
		return nil, err
	}
	if d.dir, err = openRoot(d.root); err != nil {
		return nil, err
	}
	return d, d.reserve(d.shape.reserved)
}

// fallback makes what stands in for a disk.
func (s *Store) fallback() (*Disk, error) {
	d := &Disk{store: s}
	var err error
	d.root, err = mount("tmpfs", map[string]string{"source": "tmp", "mode": "1777", "size": strconv.Itoa(fallbackBytes), "nr_inodes": strconv.Itoa(fallbackFiles)})
	if err != nil {
		return nil, thaw.Wrap("tmpdisk: fallback", err)
	}
	return d, nil
}

// nameless makes a file that ends with its last user.
func nameless(dir string) (*os.File, error) {
	const flags = unix.O_TMPFILE | unix.O_RDWR | unix.O_CLOEXEC
	fd, err := unix.Open(dir, flags, 0o600)
	if errors.Is(err, unix.ENOENT) && os.MkdirAll(dir, 0o700) == nil { // somebody removed it
		fd, err = unix.Open(dir, flags, 0o600)
	}
	if err == nil {
		return os.NewFile(uintptr(fd), "tmp disk"), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, &os.PathError{Op: "make a file in", Path: dir, Err: err}
	}
	file, err := os.CreateTemp(dir, "disk-*") // a file system without O_TMPFILE
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func openRoot(mount *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(mount.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open the root of a disk", err)
	}
	return os.NewFile(uintptr(fd), "tmp disk"), nil
}

// Mount returns the disk as a mount that is attached nowhere, its owners mapped
// through a user namespace. It stays the disk's, and is to be asked for once.
func (d *Disk) Mount(userns *os.File) (*os.File, error) {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())}
	if err := unix.MountSetattr(int(d.root.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, thaw.Wrap("tmpdisk: map owners", err)
	}
	return d.root, nil
}

// Short says, in one line for the function's log, that the disk is one in name
// only, or nothing.
func (d *Disk) Short() string {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	switch {
	case d.file == nil:
		return fmt.Sprintf("/tmp holds %d MB in this sandbox: the worker's disk is full", fallbackBytes>>20)
	case d.closed && d.store.full:
		return "/tmp takes no files now (ENOSPC): the worker's disk is full"
	case d.closed:
		return "/tmp takes no files now (ENOSPC): the functions of this account hold as much of the worker's disk as they may"
	}
	return ""
}

// reserve keeps so many blocks from the function: with all of them, each write
// that needs one fails with ENOSPC.
func (d *Disk) reserve(blocks int64) error {
	path := "/sys/fs/ext4/" + d.device + "/reserved_clusters"
	return os.WriteFile(path, []byte(strconv.FormatInt(blocks, 10)), 0)
}

// turn closes or opens the tap.
func (d *Disk) turn(closed bool) error {
	if d.file == nil || closed == d.closed {
		return nil
	}
	blocks := d.shape.reserved
	if closed {
		blocks = d.shape.blocks - 1 // the most that the kernel takes
	}
	if err := d.reserve(blocks); err != nil {
		return thaw.Wrap("tmpdisk: "+d.device, err)
	}
	d.closed = closed
	return nil
}

// use returns the bytes that the disk has of the host's, and those that its
// files have been promised besides: they are still in memory.
func (d *Disk) use() (held, promised int64) {
	if d.file == nil {
		return 0, 0
	}
	var stat unix.Stat_t
	if unix.Fstat(int(d.file.Fd()), &stat) == nil {
		held = stat.Blocks * 512
	}
	return held, max(0, d.files()-held)
}

// files returns the bytes of the disk's files.
func (d *Disk) files() int64 {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(d.dir.Fd()), &fs) != nil {
		return 0
	}
	return max(0, d.shape.free-int64(fs.Bfree)) * blockSize
}

// trim gives the host back what deleted files had.
func (d *Disk) trim() {
	span := struct{ start, length, least uint64 }{length: 1<<64 - 1}
	_ = ioctlTrim(int(d.dir.Fd()), &span.start)
}

// Release ends the disk with all that is on it. Nobody may use its mount any
// more; the rest goes on in the background.
func (d *Disk) Release() {
	if !d.store.forget(d) {
		return
	}
	d.store.closing.Go(d.close)
}

// close gives everything back. What is not on the host's disk yet is not
// written any more.
func (d *Disk) close() {
	if d.dir != nil && d.files() > dirtyBytes {
		shutdown(int(d.dir.Fd()))
	}
	for _, f := range []*os.File{d.dir, d.root, d.file} {
		if f != nil {
			_ = f.Close()
		}
	}
}
