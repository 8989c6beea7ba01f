// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// MapRoot clones the mount at path, without those below it, and maps its
// owners through the user namespace userns: a file of user 0 on disk belongs
// to user 0 inside, whatever ids of the host that namespace has. The clone is
// read-only, without devices and setuid, and attached nowhere.
func MapRoot(path string, userns *os.File) (*os.File, error) {
	const op = "pid1: root"
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		kind := thaw.Internal
		if errors.Is(err, os.ErrNotExist) {
			kind = thaw.NotFound
		}
		return nil, thaw.Errorf(op, kind, "%s: %w", path, err)
	}
	root := os.NewFile(uintptr(fd), path)
	attr := unix.MountAttr{
		Attr_set:  unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID,
		Userns_fd: uint64(userns.Fd()),
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
	if errors.Is(err, unix.EINVAL) {
		err = thaw.Errorf(op, thaw.Unavailable, "%s: its file system can't map owners (EROFS can since Linux 5.19): %w", path, err)
	}
	if err != nil {
		return nil, thaw.Wrap(op, errors.Join(err, root.Close()))
	}
	return root, nil
}
