// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/testkit"
)

// TestFsck lets erofs-utils, the reference, check what we write.
func TestFsck(t *testing.T) {
	testkit.RequireTool(t, "fsck.erofs")
	for _, tree := range nastyTrees() {
		t.Run(tree.name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "fsck.erofs", build(t, tree.root()).save(t)).CombinedOutput()
			if err != nil || bytes.Contains(out, []byte("<E>")) {
				t.Fatalf("fsck.erofs: %v\n%s", err, out)
			}
		})
	}
}

// TestKernel mounts what we write and compares every attribute that Linux
// shows with the tree that was given.
func TestKernel(t *testing.T) {
	testkit.RequireRoot(t)
	for _, tree := range nastyTrees() {
		t.Run(tree.name, func(t *testing.T) {
			im := build(t, tree.root())
			sameLines(t, listMounted(t, mountImage(t, im.save(t))), im.want())
		})
	}
}

// mountImage mounts the image file, without a loop device, until the test ends.
func mountImage(t *testing.T, path string) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(path, target, "erofs", unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	return target
}

// listMounted lists what Linux sees. It goes down by descriptors, since paths
// may be longer than a call takes.
func listMounted(t *testing.T, target string) []string {
	t.Helper()
	root, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s, err := statAt(root, ".")
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("%q %s", "", s)}
	if lines, err = listDir(lines, root, ""); err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func listDir(lines []string, dir *os.File, path string) ([]string, error) {
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		s, err := statAt(dir, e.Name())
		if err != nil {
			return nil, err
		}
		if e.Type() != fileType(s.Mode) {
			return nil, fmt.Errorf("readdir says %v of %q, whose mode is %o", e.Type(), e.Name(), s.Mode)
		}
		lines = append(lines, fmt.Sprintf("%q %s", path+"/"+e.Name(), s))
		if e.IsDir() {
			fd, err := unix.Openat(int(dir.Fd()), e.Name(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			child := os.NewFile(uintptr(fd), e.Name())
			lines, err = listDir(lines, child, path+"/"+e.Name())
			if err := child.Close(); err != nil {
				return nil, err
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

func fileType(mode uint32) fs.FileMode {
	return map[uint32]fs.FileMode{modeRegular: 0, modeDir: fs.ModeDir, modeSymlink: fs.ModeSymlink, modeChar: fs.ModeDevice | fs.ModeCharDevice,
		modeBlock: fs.ModeDevice, modeFIFO: fs.ModeNamedPipe, modeSocket: fs.ModeSocket}[mode&modeType]
}

func statAt(dir *os.File, name string) (seen, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return seen{}, fmt.Errorf("stat %q: %w", name, err)
	}
	s := seen{Ino: st.Ino, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Sec, MtimeNsec: uint32(st.Mtim.Nsec),
		Nlink: uint32(st.Nlink), Rdev: uint32(st.Rdev), Size: st.Size}
	path := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
	var err error
	switch st.Mode & modeType {
	case modeRegular:
		s.Content, err = os.ReadFile(path)
	case modeSymlink:
		s.Target, err = os.Readlink(path)
	}
	if err == nil {
		s.Xattrs, err = listXattrs(path)
	}
	return s, err
}

func listXattrs(path string) ([]Xattr, error) {
	names := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		return nil, fmt.Errorf("listxattr: %w", err)
	}
	var xattrs []Xattr
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("getxattr %s: %w", name, err)
		}
		xattrs = append(xattrs, Xattr{name, value[:n]})
	}
	return xattrs, nil
}
