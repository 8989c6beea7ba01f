// SPDX-License-Identifier: Apache-2.0

package tmpdisk

import (
	"errors"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// loopAttempts bounds how often another program on the host may take the free
// loop device that the kernel has just named to us.
const loopAttempts = 1000

// loopDevice makes file a block device, /dev/loop<number>. It ends with its
// last user: nothing is left of it, however this process ends. Direct I/O keeps
// the host from holding each page a second time.
func loopDevice(file *os.File) (device *os.File, name string, err error) {
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: "/dev/loop-control", Err: err}
	}
	defer unix.Close(control)
	for range loopAttempts {
		number, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, "", os.NewSyscallError("find a free loop device", err)
		}
		name = "loop" + strconv.Itoa(number)
		fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return nil, "", &os.PathError{Op: "open", Path: "/dev/" + name, Err: err}
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: blockSize}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		err = unix.IoctlLoopConfigure(fd, &config)
		if err == nil {
			return os.NewFile(uintptr(fd), name), name, nil
		}
		_ = unix.Close(fd)
		if !errors.Is(err, unix.EBUSY) {
			return nil, "", os.NewSyscallError("configure "+name, err)
		}
	}
	return nil, "", errors.New("other programs took every free loop device")
}

// mountDevice mounts the file system of a device, attached nowhere. A sandbox
// sees the name in its table of mounts, so it is no path: it is looked up in
// /dev, from a thread that ends with this call.
func mountDevice(name string) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread has another working directory
		file, err := mountFrom("/dev", name)
		done <- result{file, err}
	}()
	r := <-done
	return r.file, r.err
}

func mountFrom(dir, name string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return nil, &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	// What /tmp holds need not outlive a crash of the host: no barriers, and no
	// order between data and the journal.
	return mount("ext4", map[string]string{"source": name, "data": "writeback", "commit": "30"}, "nobarrier", "noinit_itable")
}

// mount makes a mount of a new file system, attached nowhere.
func mount(kind string, options map[string]string, flags ...string) (*os.File, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("open "+kind, err)
	}
	defer unix.Close(fs)
	for key, value := range options {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return nil, os.NewSyscallError("set "+key, err)
		}
	}
	for _, flag := range flags {
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return nil, os.NewSyscallError("set "+flag, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("mount "+kind, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, os.NewSyscallError("mount "+kind, err)
	}
	return os.NewFile(uintptr(fd), kind), nil
}
