// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/read/mount"
)

// touchPath is the variable that has this program map a file, touch a page in its
// middle, and end.
const touchPath = "THAW_TEST_TOUCH"

func TestMain(m *testing.M) {
	path := os.Getenv(touchPath)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := touch(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func touch(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pages, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if pages[len(pages)/2] == 0 {
		return fmt.Errorf("%s has a zero in its middle", path)
	}
	return nil
}

// A program is mapped and touched here and there. Each touch should bring little
// more than its page: what is read at a version's first start is fetched at every
// later one.
func TestTouchedPageReadsLittleBesides(t *testing.T) {
	testkit.RequireTool(t, "mkfs.erofs")
	testkit.RequireRoot(t)
	tree := t.TempDir()
	program := randomFile(8 << 20)
	program.data[len(program.data)/2] = 1
	if err := os.WriteFile(filepath.Join(tree, "program"), program.data, 0o644); err != nil {
		t.Fatal(err)
	}
	m, dir := mountTree(t, tree)
	path := filepath.Join(dir, "program")
	if _, err := os.Stat(path); err != nil { // its metadata
		t.Fatal(err)
	}
	before := m.s.Stats().ReadBytes
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), touchPath+"="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("touch: %v\n%s", err, out)
	}
	const most = 64 << 10
	if read := m.s.Stats().ReadBytes - before; read < thaw.BlockBytes || read > most {
		t.Errorf("one page touched, %d bytes read; want %d at most", read, most)
	}
}

// mountTree serves a tree as an image and mounts it.
func mountTree(t *testing.T, tree string) (*served, string) {
	t.Helper()
	made := filepath.Join(t.TempDir(), "image")
	if out, err := exec.CommandContext(t.Context(), "mkfs.erofs", made, tree).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	data, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	m := serve(t, mount.Options{}, map[string]mount.File{"image": &memFile{data: data}})
	dir := t.TempDir()
	var images mount.Images
	if err := images.Mount(filepath.Join(m.dir, "image"), dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mount.Detach(dir); err != nil {
			t.Error(err)
		}
	})
	return m, dir
}

// TestSourceTellsNoPath: a function sees of what its root is mounted.
func TestSourceTellsNoPath(t *testing.T) {
	testkit.RequireTool(t, "mkfs.erofs")
	testkit.RequireRoot(t)
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	_, dir := mountTree(t, tree)
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\nimage "+dir+" erofs ") {
		t.Errorf("the mount is not named \"image\" in:\n%s", text)
	}
	if after, err := os.Getwd(); err != nil || after != before {
		t.Errorf("the working directory is %s, %v; it was %s", after, err, before)
	}
}
