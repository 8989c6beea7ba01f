// SPDX-License-Identifier: Apache-2.0

package ingesttest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Node is all that a process can see of a file.
type Node struct {
	Mode     uint32
	UID, GID uint32
	Size     int64 // of regular files and symbolic links
	Rdev     uint64
	Nlink    uint64 // of other than directories
	Mtime    string // seconds and nanoseconds
	Target   string
	Xattrs   string
	Content  string // hash of a regular file's bytes
	Same     string // the first path of the same inode
}

// ReadTree returns every file below dir by its path, the root being ".".
func ReadTree(t testing.TB, dir string) map[string]Node {
	t.Helper()
	tree := map[string]Node{}
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n, inode, err := readNode(path)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, ok := first[inode]; !ok {
			first[inode] = name
		}
		n.Same = first[inode]
		tree[name] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// ContentOf is the Content of a file that holds text.
func ContentOf(text string) string {
	h := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%x", h)
}

func readNode(path string) (Node, uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Node{}, 0, err
	}
	n := Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Rdev: st.Rdev, Nlink: st.Nlink, Size: st.Size,
		Mtime: fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Content, err = hashFile(path)
	case unix.S_IFLNK:
		n.Target, err = os.Readlink(path)
	case unix.S_IFDIR:
		n.Size, n.Nlink = 0, 0 // file systems count these as they like
	default:
		n.Size = 0
	}
	if err == nil {
		n.Xattrs, err = readXattrs(path)
	}
	return n, st.Ino, err
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

func readXattrs(path string) (string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return "", err
	}
	names := strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	var all strings.Builder
	for _, name := range names {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&all, "%s=%x ", name, value[:n])
	}
	return all.String(), nil
}

// Diff returns a line for every path that got and want don't have alike, but
// for those that ignore says.
func Diff(got, want map[string]Node, ignore func(path string) bool) []string {
	paths := map[string]bool{}
	for path := range got {
		paths[path] = true
	}
	for path := range want {
		paths[path] = true
	}
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		g, inGot := got[path]
		w, inWant := want[path]
		switch {
		case ignore != nil && ignore(path):
		case !inGot:
			lines = append(lines, path+" is missing")
		case !inWant:
			lines = append(lines, path+" should not be there")
		case g != w:
			lines = append(lines, fmt.Sprintf("%s\n  is   %+v\n  want %+v", path, g, w))
		}
	}
	return lines
}
