// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// The oldest kernel that mounts an EROFS image from a file.
const minMajor, minMinor = 6, 12

// preflight says in one line what this machine or this user lacks to run a
// server, before anything is made.
func preflight() error {
	if os.Geteuid() != 0 {
		return thaw.Errorf("serve", thaw.Denied, "it must run as root, to mount images and to make sandboxes: try sudo")
	}
	if effective, err := capabilities(); err == nil && effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return thaw.Errorf("serve", thaw.Denied, "root lacks the capability CAP_SYS_ADMIN here, as in a container: run it on the host, or in a privileged container")
	}
	if uids, err := os.ReadFile("/proc/self/uid_map"); err == nil && !strings.Contains(string(uids), "4294967295") {
		return thaw.Errorf("serve", thaw.Denied, "root of a user namespace can't mount images: run it as root of the host")
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return thaw.Wrap("serve: uname", err)
	}
	if err := checkKernel(unix.ByteSliceToString(name.Release[:])); err != nil {
		return err
	}
	// Asking for a file system loads its module.
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return thaw.Errorf("serve", thaw.Unavailable, "the kernel has no EROFS (%w): load the module erofs, or use a kernel that has CONFIG_EROFS_FS", err)
	}
	_ = unix.Close(fd)
	var stat unix.Stat_t
	const fuse = "/dev/fuse"
	if err := unix.Stat(fuse, &stat); err != nil || stat.Rdev != unix.Mkdev(10, 229) {
		return thaw.Errorf("serve", thaw.Unavailable, "there is no FUSE device at %s: modprobe fuse, or give the container this device", fuse)
	}
	if limit, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err == nil && strings.TrimSpace(string(limit)) == "0" {
		return thaw.Errorf("serve", thaw.Unavailable, "user namespaces are turned off: sysctl -w user.max_user_namespaces=10000")
	}
	return checkCgroups("/sys/fs/cgroup")
}

// checkKernel refuses a release that is too old; of one that it can't read it
// thinks well.
func checkKernel(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return nil
	}
	if major > minMajor || major == minMajor && minor >= minMinor {
		return nil
	}
	return thaw.Errorf("serve", thaw.Unavailable, "this kernel is Linux %s, and thaw needs %d.%d or newer, which mounts EROFS images from files", release, minMajor, minMinor)
}

// checkCgroups looks for a control group file system of either version.
func checkCgroups(root string) error {
	for _, file := range []string{"cgroup.controllers", "memory/cgroup.procs"} {
		if _, err := os.Stat(filepath.Join(root, file)); err == nil {
			return nil
		}
	}
	return thaw.Errorf("serve", thaw.Unavailable, "there are no control groups at %s: mount -t cgroup2 cgroup2 %s", root, root)
}

// capabilities are the effective ones of this process.
func capabilities() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseUint(strings.TrimSpace(line), 16, 64)
}

// makeDataFolder makes the folder and run/ in it. If the start fails, undo takes
// away what it and the start made in a folder that was new or empty.
func makeDataFolder(data string) (undo func(), err error) {
	if socket := adminSocket(data); len(socket) > 107 {
		return nil, thaw.Errorf("serve", thaw.Invalid, "--data %s is too long for a socket in it: a path of at most %d bytes", data, 107-len(socket)+len(data))
	}
	undo = func() {}
	entries, err := os.ReadDir(data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		made := data // the topmost folder that will be made
		for parent := filepath.Dir(made); ; parent = filepath.Dir(made) {
			if _, err := os.Stat(parent); err == nil || parent == made {
				break
			}
			made = parent
		}
		undo = func() { removeUnmounted(made) }
	case err == nil && len(entries) == 0:
		undo = func() {
			entries, _ := os.ReadDir(data)
			for _, e := range entries {
				removeUnmounted(filepath.Join(data, e.Name()))
			}
		}
	case errors.Is(err, syscall.ENOTDIR):
		return nil, thaw.Errorf("serve", thaw.Conflict, "--data %s is a file, or has one in its path: name a folder", data)
	case err != nil:
		return nil, thaw.Errorf("serve", thaw.Unavailable, "the data folder can't be read: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(data, "run"), 0o700); err != nil {
		undo()
		return nil, dataError(data, err)
	}
	return undo, nil
}

// dataError tells why a data folder can't be used.
func dataError(data string, err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return thaw.Errorf("serve", thaw.Unavailable, "the data folder %s can't be written (%w): name one that can with --data", data, err)
	}
	return thaw.Errorf("serve", thaw.Unavailable, "the data folder: %w", err)
}

// removeUnmounted removes a folder unless something is still mounted in it.
func removeUnmounted(dir string) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil && !strings.Contains(string(mounts), " "+dir+"/") {
		_ = os.RemoveAll(dir)
	}
}

// listenError tells an address that is taken from one that is none.
func listenError(flag, address string, err error) error {
	kind, remedy := thaw.Invalid, "give HOST:PORT"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		kind, remedy = thaw.Conflict, "another program listens there (another thaw serve?): end it, or choose another address"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		kind, remedy = thaw.Unavailable, "this machine has no such address: choose one that it has"
	case errors.Is(err, fs.ErrPermission):
		kind, remedy = thaw.Denied, "choose a port above 1023"
	}
	return thaw.Errorf("serve", kind, "%s %s: %w: %s", flag, address, err, remedy)
}
