// SPDX-License-Identifier: Apache-2.0

package main

import (
	"golang.org/x/sys/unix"

	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// enter attaches the root and all that belongs into it, and makes it "/". A
// symlink in the root is followed within it: what is mounted lands in the root
// or nowhere.
func enter(order wire.Start, files passed) error {
	if err := unix.Sethostname([]byte(wire.Hostname)); err != nil {
		return step("set host name", err)
	}
	if err := unix.MoveMount(files.root, "", unix.AT_FDCWD, "/root", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return step("attach root", err)
	}
	_ = unix.Close(files.root)
	fd, err := unix.Open("/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return step("open root", err)
	}
	if err := furnish(fd, files.tmp, order); err != nil {
		return err
	}
	_ = unix.Close(fd)
	if err := unix.Chdir("/root"); err != nil {
		return step("enter root", err)
	}
	return swapRoot()
}

// furnish moves proc, sys, dev and tmp into the root and binds the files that
// name the host.
func furnish(root, tmp int, order wire.Start) error {
	for _, name := range []string{"proc", "sys", "dev", "tmp"} {
		target, err := within(root, name, unix.O_DIRECTORY)
		if err != nil {
			return step("the root's directory "+name, err)
		}
		if name == "tmp" {
			err = unix.MoveMount(tmp, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
			_ = unix.Close(tmp)
		} else {
			err = unix.MoveMount(unix.AT_FDCWD, "/"+name, target, "", unix.MOVE_MOUNT_T_EMPTY_PATH)
		}
		_ = unix.Close(target)
		if err != nil {
			return step("move "+name, err)
		}
	}
	if err := describe(order.Machine); err != nil {
		return err
	}
	for name, content := range map[string]string{"etc/hosts": order.Hosts, "etc/resolv.conf": order.Resolv} {
		target, err := within(root, name, 0)
		if err != nil {
			continue // the image has no such file, or links to what is mounted over it
		}
		err = bindFile("/"+name, content, target)
		_ = unix.Close(target)
		if err != nil {
			return step("bind "+name, err)
		}
	}
	return nil
}

// within opens a name in the root to mount on it. It refuses what is in another
// mount by now.
func within(root int, name string, flags uint64) (int, error) {
	return unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// bindFile puts a read-only file with that content over target, if that is a
// regular file.
func bindFile(path, content string, target int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(target, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	if err := put(path, content); err != nil {
		return err
	}
	source, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(source, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return err
	}
	return unix.MoveMount(source, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
