// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// Flags of everything that is neither the root nor a device.
const (
	inert    = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	readOnly = inert | unix.MS_RDONLY
)

// devices are the nodes that a sandbox gets, bound from the host: a user
// namespace can't make any.
var devices = [...]string{"null", "zero", "full", "random", "urandom", "tty"}

// links of /dev, as every container has them.
var links = [...][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}}

// skeleton makes a small file system with all that a root needs besides
// itself, makes it the root of this mount namespace, and lets go of every
// mount of the host. Without the latter a waiting jail would keep alive the
// images that were mounted when it was made.
func skeleton() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return step("make mounts private", err)
	}
	// Any directory would do to stand on while the root is exchanged.
	if err := unix.Mount("thaw", "/tmp", "tmpfs", inert, "mode=0755,size=1m,nr_inodes=128"); err != nil {
		return step("mount skeleton", err)
	}
	if err := unix.Chdir("/tmp"); err != nil {
		return step("enter skeleton", err)
	}
	for _, dir := range []string{"proc", "sys", "dev", "etc", "empty", "root"} {
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return step("mkdir "+dir, err)
		}
	}
	if err := populate(); err != nil {
		return err
	}
	return swapRoot()
}

// populate mounts what the root will get. proc and sysfs must be mounted while
// the host's are still there: the kernel lets a user namespace mount them only
// where they are visible already.
func populate() error {
	for _, m := range []struct {
		kind, at, options string
		flags             uintptr
	}{
		{"proc", "proc", "", inert},
		{"sysfs", "sys", "", readOnly},
		{"tmpfs", "dev", "mode=0755,size=64k,nr_inodes=64", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "empty", "mode=0555,size=4k,nr_inodes=2", readOnly},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.options); err != nil {
			return step("mount "+m.at, err)
		}
	}
	if err := makeDev(); err != nil {
		return err
	}
	if err := mask(); err != nil {
		return err
	}
	return bindMachine()
}

// bindMachine binds the files that tell of the machine, which are still empty:
// a bind shows what is written to its file later.
func bindMachine() error {
	for _, f := range wire.MachineFiles {
		from := "etc/" + f.Name
		if err := put(from, ""); err != nil {
			return step("make "+from, err)
		}
		for _, path := range f.Paths {
			if err := bindReadOnly(from, path); err != nil && err != unix.ENOENT {
				return step("bind "+path, err)
			}
		}
	}
	return nil
}

// describe writes what is known of the files that bindMachine bound.
func describe(m wire.Machine) error {
	for i, text := range m.Texts() {
		if text == "" {
			continue
		}
		if err := put("/etc/"+wire.MachineFiles[i].Name, text); err != nil {
			return step("write "+wire.MachineFiles[i].Name, err)
		}
	}
	return nil
}

func bindReadOnly(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|readOnly, "")
}

// cgroupsAt is where the control groups are seen.
const cgroupsAt = "/sys/fs/cgroup"

func mountCgroups(cgroups []wire.Mount) error {
	const at = cgroupsAt
	if len(cgroups) == 0 {
		return nil
	}
	if m := cgroups[0]; m.Name == "" {
		if err := unix.Mount("cgroup", at, m.Type, readOnly, m.Options); err != nil {
			return step("mount cgroup2", err)
		}
		return maskCgroup(at, m.Masks)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", inert, "mode=0755,size=64k,nr_inodes=32"); err != nil {
		return step("mount "+at, err)
	}
	for _, m := range cgroups {
		if err := mountCgroup(at+"/"+m.Name, m); err != nil {
			return err
		}
	}
	return step("remount "+at, unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|readOnly, ""))
}

// mountCgroup mounts a hierarchy of v1, under the names of all its controllers.
func mountCgroup(dir string, m wire.Mount) error {
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return step("mkdir "+dir, err)
	}
	if err := unix.Mount("cgroup", dir, m.Type, readOnly, m.Options); err != nil {
		return step("mount "+dir, err)
	}
	for name := range strings.SplitSeq(m.Options, ",") {
		if err := unix.Symlink(m.Name, cgroupsAt+"/"+name); err != nil && err != unix.EEXIST {
			return step("link "+name, err)
		}
	}
	return maskCgroup(dir, m.Masks)
}

func maskCgroup(dir string, masks []string) error {
	for _, mask := range masks {
		name, text, _ := strings.Cut(mask, "=")
		from, to := "/etc/"+name, dir+"/"+name
		if err := put(from, text+"\n"); err != nil {
			return step("make "+from, err)
		}
		if err := bindReadOnly(from, to); err != nil && err != unix.ENOENT {
			return step("bind "+to, err)
		}
	}
	return nil
}

func makeDev() error {
	for _, name := range devices {
		fd, err := unix.Open("dev/"+name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
		if err != nil {
			return step("create dev/"+name, err)
		}
		_ = unix.Close(fd)
		if err := unix.Mount("/dev/"+name, "dev/"+name, "", unix.MS_BIND, ""); err != nil {
			return step("bind dev/"+name, err)
		}
	}
	for _, l := range links {
		if err := unix.Symlink(l[0], "dev/"+l[1]); err != nil {
			return step("link dev/"+l[1], err)
		}
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NOEXEC)
	return step("remount dev", unix.Mount("", "dev", "", flags, ""))
}

func mask() error {
	bind := func(from, to string, flags uintptr) error {
		err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
		if err == unix.ENOENT {
			return nil // this kernel has no such file
		}
		if err == nil && flags != 0 {
			err = unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
		}
		return step("mask "+to, err)
	}
	for _, path := range wire.MaskedFiles {
		if err := bind("dev/null", path, 0); err != nil {
			return err
		}
	}
	for _, path := range wire.MaskedDirs {
		if err := bind("empty", path, readOnly); err != nil {
			return err
		}
	}
	for _, path := range wire.ReadOnlyPaths {
		if err := bind(path, path, readOnly); err != nil {
			return err
		}
	}
	return nil
}

// swapRoot makes the working directory the root and drops the old one. With
// both arguments the same, the old root is stacked on the new one and found
// there (pivot_root(2), NOTES).
func swapRoot() error {
	if err := unix.PivotRoot(".", "."); err != nil {
		return step("pivot root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return step("drop the old root", err)
	}
	return step("enter the new root", unix.Chdir("/"))
}

// put makes a file of the skeleton, or writes one of proc. It spares itself
// package os, whose files wake a poller.
func put(path, content string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(content))
	return errors.Join(err, unix.Close(fd))
}
