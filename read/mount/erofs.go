// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// imageReadAheadKiB is how far the kernel reads ahead in the files of an image,
// and of what EROFS reads for them of the image's file. Around a page of a program
// that is first touched it reads that much, too, most of which no start needs:
// with 128, the kernel's default, a start reads a quarter more
// (docs/decisions/0004-kernel-readahead.md).
const imageReadAheadKiB = 32

// Images mounts EROFS images. The zero value is ready. It is safe for
// concurrent use.
type Images struct {
	mu sync.Mutex // held while the readahead of the files' mount is narrowed
}

// Mount mounts the EROFS image in the file source, which is of a [Mount], on the
// folder target, both absolute: read only, without device nodes and without effect of
// set-user-id bits. It needs no loop device; the error is [thaw.Unavailable]
// where the kernel can't do without (before 6.12).
//
// The option "directio" is left out: with it each read of the image is a request
// of at most 64 KiB to the server, without it what was read ahead into the cache
// of the source file is copied within the kernel.
func (m *Images) Mount(source, target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var stat unix.Stat_t
	if err := unix.Stat(source, &stat); err != nil {
		return thaw.Wrap("mount "+source, err)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	setReadAhead(device, imageReadAheadKiB) // a file keeps what was set when it was opened
	before := erofsDevices()
	err := mountErofs(source, target)
	setReadAhead(device, MaxReadBytes>>10)
	// The kernel does not say which device is the mount's: it is the one that is
	// new. Where somebody else mounts at this moment, both stay as they are.
	made := slices.DeleteFunc(erofsDevices(), func(device string) bool { return slices.Contains(before, device) })
	if err == nil && len(made) == 1 {
		setReadAhead(made[0], imageReadAheadKiB)
	}
	if errors.Is(err, syscall.ENOTBLK) {
		return thaw.Errorf("mount "+source, thaw.Unavailable, "this kernel mounts EROFS from block devices only: Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE is needed: %w", err)
	}
	return thaw.Wrap("mount "+source, err)
}

// mountErofs mounts by the file's name in its folder: the kernel shows the source
// as it was given, also to the function whose root the mount is. The thread that
// stands in that folder shares its working directory with no other.
func mountErofs(source, target string) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(filepath.Dir(source))
		}
		if err == nil {
			err = unix.Mount(filepath.Base(source), target, "erofs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, "")
		}
		done <- err
	}()
	return <-done
}

// Open opens a file of a [Mount] to advise the kernel of what will be read of it,
// which then comes in as large requests as the mount allows.
func (m *Images) Open(source string) (*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// os.Open would ask whether the file can be polled.
	fd, err := unix.Open(source, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, thaw.Wrap("open "+source, err)
	}
	return os.NewFile(uintptr(fd), source), nil
}

// erofsDevices are the devices of all EROFS mounts of files, as the kernel names
// them where it shows their readahead.
func erofsDevices() []string {
	folder, err := os.Open(bdiFolder)
	if err != nil {
		return nil
	}
	defer folder.Close()
	names, err := folder.Readdirnames(0)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "erofs-") })
}

// CheckKernel reports, as [thaw.Unavailable] and in words for an operator, what
// the kernel lacks of what mounting images needs.
func CheckKernel() error {
	const op = "check the kernel"
	types, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return thaw.Wrap(op, err)
	}
	for _, want := range []string{"fuse", "erofs"} {
		if !hasLine(string(types), want) {
			return thaw.Errorf(op, thaw.Unavailable, "the file system %s is missing: modprobe %s", want, want)
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return thaw.Wrap(op, err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err == nil && (major < 6 || major == 6 && minor < 12) {
		return thaw.Errorf(op, thaw.Unavailable, "Linux %s is too old: EROFS on files needs 6.12", release)
	}
	return nil
}

func hasLine(text, fsType string) bool {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[len(fields)-1] == fsType {
			return true
		}
	}
	return false
}
