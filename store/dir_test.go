// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/store/storetest"
)

func TestOneOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "origin")
	d, err := store.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenDir(path); thaw.KindOf(err) != thaw.Conflict {
		t.Errorf("a second owner: %v; want a conflict", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
}

// TestShared uses a store beside its owner, as the loader does.
func TestShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "origin")
	if _, err := store.OpenShared(path); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("opening a store that is not there: %v; want not found", err)
	}
	d := mustOpen(t, path)
	shared, err := store.OpenShared(path)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	name, sealed := storetest.Sealed(1, 5000)
	if err := d.Put(t.Context(), sealed.Named()); err != nil {
		t.Fatal(err)
	}
	// Another process opens and closes while the owner's chunk is pending: it
	// must not take the owner's file for a leftover.
	second, err := store.OpenShared(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := shared.Get(t.Context(), name); err != nil || string(got) != string(sealed) {
		t.Errorf("Get: %d bytes, %v", len(got), err)
	}
	if err := shared.PutObject(t.Context(), "workingset/x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if got, err := d.ReadObject(t.Context(), "workingset/x", 0, 9); err != nil || string(got) != "1" {
		t.Errorf("the owner reads %q, %v", got, err)
	}
}

// TestLeftovers opens a store in which a process died.
func TestLeftovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "origin")
	d, err := store.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(path, "tmp", "123")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "1"), []byte("half a chu"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the leftover is still there: %v", err)
	}
}

func TestUnknownFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "origin")
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "FORMAT"), []byte("thaw store 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenDir(path); thaw.KindOf(err) != thaw.Invalid {
		t.Errorf("OpenDir: %v; want invalid", err)
	}
}

// TestForeignFile lists a store into which someone has put something else.
func TestForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "origin")
	d := mustOpen(t, path)
	name, sealed := storetest.Sealed(1, 10)
	if err := d.Put(t.Context(), sealed.Named()); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrongPlace := filepath.Join(path, "chunks", "00", strings.Repeat("f", 64))
	for _, file := range []string{wrongPlace, filepath.Join(path, "chunks", "ff", "README")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	chunks, strangers := 0, 0
	for info, err := range d.Chunks(t.Context()) {
		switch {
		case err == nil && info.Name == name:
			chunks++
		case thaw.KindOf(err) == thaw.Corrupt:
			strangers++
		default:
			t.Errorf("listing yields %v, %v", info, err)
		}
	}
	if chunks != 1 || strangers != 2 {
		t.Errorf("%d chunks and %d strangers are listed, want 1 and 2", chunks, strangers)
	}
}

// TestFullDisk fills a real file system.
func TestFullDisk(t *testing.T) {
	testkit.RequireRoot(t)
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	d, err := store.OpenDir(filepath.Join(mount, "origin"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fits := 0
	for ; ; fits++ {
		_, sealed := storetest.Sealed(uint64(fits), 256<<10)
		err := d.Put(t.Context(), sealed.Named())
		if err == nil {
			continue
		}
		if thaw.KindOf(err) != thaw.Unavailable || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("Put on a full disk: %v", err)
		}
		break
	}
	if err := d.PutObject(t.Context(), "big", make([]byte, 1<<20)); thaw.KindOf(err) != thaw.Unavailable {
		t.Errorf("PutObject on a full disk: %v", err)
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatalf("what did fit can't be published: %v", err)
	}
	n := 0
	for info, err := range d.Chunks(t.Context()) {
		if err != nil {
			t.Error(err)
		} else if _, err := d.Get(t.Context(), info.Name); err != nil {
			t.Error(err)
		}
		n++
	}
	if n != fits || fits == 0 {
		t.Errorf("%d chunks are there, %d were put", n, fits)
	}
	left, err := filepath.Glob(filepath.Join(mount, "origin", "tmp", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files %v, %v", left, err)
	}
}
