// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"encoding/binary"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxTrackedBytes bounds a file of the repository: what is larger was built.
const maxTrackedBytes = 1 << 20

// TestTrackedFiles: nothing that was built or is kept beside the sources is
// part of the repository, by whatever name: no symbolic link, no cache, no
// large file.
func TestTrackedFiles(t *testing.T) {
	for _, f := range trackedFiles(t) {
		if f.link {
			t.Errorf("%s is a symbolic link", f.name)
		}
		if slices.Contains(strings.Split(f.name, "/"), ".cache") {
			t.Errorf("%s is of a cache", f.name)
		}
		if f.size > maxTrackedBytes {
			t.Errorf("%s has %d bytes, at most %d", f.name, f.size, maxTrackedBytes)
		}
	}
}

type trackedFile struct {
	name string
	link bool
	size uint32 // in the work tree when it was last added
}

// trackedFiles reads git's index, so that the test cache notices a change of
// it. Where there is no repository (the sources were unpacked from an archive),
// the test is skipped.
func trackedFiles(t *testing.T) []trackedFile {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(gitDir(t), "index"))
	if err != nil {
		t.Skipf("there is no index: %v", err)
	}
	// git's Documentation/gitformat-index: a header of 12 bytes, then entries of
	// 62 bytes, two more where flags say so, and a name, padded with 1 to 8
	// zeros to a multiple of 8.
	const header, fixed = 12, 62
	if len(index) < header || string(index[:4]) != "DIRC" || binary.BigEndian.Uint32(index[4:]) > 3 {
		t.Fatalf("an index of another version: %q", index[:min(len(index), header)])
	}
	count := binary.BigEndian.Uint32(index[8:])
	files := make([]trackedFile, 0, count)
	rest := index[header:]
	for range count {
		mode, size := binary.BigEndian.Uint32(rest[24:]), binary.BigEndian.Uint32(rest[36:])
		start := fixed
		if binary.BigEndian.Uint16(rest[60:])&0x4000 != 0 { // extended
			start += 2
		}
		n := bytes.IndexByte(rest[start:], 0)
		files = append(files, trackedFile{string(rest[start : start+n]), mode&0o170000 == 0o120000, size})
		rest = rest[(start+n+8)&^7:]
	}
	if !slices.ContainsFunc(files, func(f trackedFile) bool { return f.name == "go.mod" }) {
		t.Fatal("go.mod is not tracked: the index was not understood")
	}
	return files
}

// gitDir returns the folder of the index, that of a further work tree too.
func gitDir(t *testing.T) string {
	t.Helper()
	git := filepath.Join("..", "..", ".git")
	text, err := os.ReadFile(git)
	if err != nil {
		return git // a folder, or nothing
	}
	dir := strings.TrimSpace(strings.TrimPrefix(string(text), "gitdir:"))
	if !path.IsAbs(dir) {
		dir = filepath.Join("..", "..", dir)
	}
	return dir
}
