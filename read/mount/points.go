// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Folders makes dir hold nothing but folders to mount on, in memory: to make one on
// a disk may wait for the disk, within a start (1 to 4 ms, ext4 with cold caches).
func Folders(dir string) error {
	err := unix.Mount("thaw", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=4k")
	return thaw.Wrap("mount folders on "+dir, err)
}

// Detach takes the mount off dir at once; what still uses it keeps it until it
// is done. Nothing mounted there is no error.
func Detach(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return thaw.Wrap("unmount "+dir, err)
}

// Abort takes the FUSE mount off dir as [Detach] does, and has the kernel give
// up what still uses it: whoever waits for an answer gets an error, and so does
// whoever reads later.
func Abort(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH|unix.MNT_FORCE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return thaw.Wrap("unmount "+dir, err)
}

// IsMounted reports whether something is mounted on dir. It asks no file
// system, so it never waits for the server of one.
func IsMounted(dir string) bool {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &stat)
	return err == nil && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// DetachBelow detaches every mount at or below dir, innermost first.
func DetachBelow(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return thaw.Wrap("unmount all below "+dir, err)
	}
	points, err := pointsBelow(dir)
	if err != nil {
		return thaw.Wrap("unmount all below "+dir, err)
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		errs = append(errs, Detach(p))
	}
	return errors.Join(errs...)
}

// pointsBelow returns the mount points at or below dir, oldest first.
func pointsBelow(dir string) ([]string, error) {
	points, err := mountsBelow(dir)
	var paths []string
	for _, p := range points {
		paths = append(paths, p.path)
	}
	return paths, err
}

// point is where something is mounted.
type point struct{ path, device string } // device is MAJOR:MINOR

// mountsBelow returns what is mounted at or below dir, oldest first.
func mountsBelow(dir string) ([]point, error) {
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer info.Close()
	var points []point
	lines := bufio.NewScanner(info)
	lines.Buffer(nil, 1<<20) // a line holds options of any length
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if p := unescape(fields[4]); p == dir || strings.HasPrefix(p, dir+"/") {
			points = append(points, point{path: p, device: fields[2]})
		}
	}
	return points, lines.Err()
}

// unescape undoes the kernel's \ooo in paths.
func unescape(s string) string {
	for i := 0; i+4 <= len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
			s = s[:i] + string([]byte{byte(c)}) + s[i+4:]
		}
	}
	return s
}
