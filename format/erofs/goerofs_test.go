// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
)

// TestGoErofs lets an independent reader list what we write. Its io/fs
// interface has no names that are not UTF-8, so that tree is left to the
// kernel.
func TestGoErofs(t *testing.T) {
	for _, tree := range nastyTrees() {
		if tree.name == "names" {
			continue
		}
		t.Run(tree.name, func(t *testing.T) {
			im := build(t, tree.root())
			img, err := goerofs.Open(bytes.NewReader(im.bytes))
			if err != nil {
				t.Fatal(err)
			}
			sameLines(t, listGoErofs(t, img), im.want())
		})
	}
}

func listGoErofs(t *testing.T, img fs.FS) []string {
	t.Helper()
	var lines []string
	err := fs.WalkDir(img, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*goerofs.Stat)
		if !ok {
			return fmt.Errorf("%s: Sys is a %T", path, info.Sys())
		}
		s := seen{Ino: uint64(st.Ino), Mode: unixMode(st.Mode), UID: st.UID, GID: st.GID, Mtime: int64(st.Mtime),
			MtimeNsec: st.MtimeNs, Nlink: uint32(st.Nlink), Rdev: st.Rdev, Size: st.Size}
		for name, value := range st.Xattrs {
			// go-erofs ends the two names that are all prefix with a dot.
			s.Xattrs = append(s.Xattrs, Xattr{strings.TrimSuffix(name, "."), []byte(value)})
		}
		switch s.Mode & modeType {
		case modeRegular:
			s.Content, err = fs.ReadFile(img, path)
		case modeSymlink:
			s.Target, err = fs.ReadLink(img, path)
		}
		if path = "/" + path; path == "/." {
			path = ""
		}
		lines = append(lines, fmt.Sprintf("%q %s", path, s))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// unixMode turns a mode of Go into st_mode.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for _, bit := range []struct {
		from fs.FileMode
		to   uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&bit.from != 0 {
			mode |= bit.to
		}
	}
	for _, kind := range []uint32{modeRegular, modeDir, modeSymlink, modeChar, modeBlock, modeFIFO, modeSocket} {
		if m.Type() == fileType(kind) {
			return mode | kind
		}
	}
	return mode
}
