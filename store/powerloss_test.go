// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/store/storetest"
)

// TestPowerLoss copies the block device under a store right after a Sync, as if
// the machine had lost its power then, and looks at the copy. A store whose
// disk only claims to sync must fail the same test, or the test shows nothing.
func TestPowerLoss(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireTool(t, "mkfs.ext4", "mount", "umount")
	t.Run("synced", func(t *testing.T) {
		if chunks, objects := surviving(t, true); chunks != 40 || objects != 3 {
			t.Errorf("%d of 40 acknowledged chunks and %d of 3 objects survived", chunks, objects)
		}
	})
	t.Run("control", func(t *testing.T) {
		for range 5 { // something else may have synced the whole machine just then
			if chunks, _ := surviving(t, false); chunks < 40 {
				return
			}
		}
		t.Error("chunks survive without being synced: this test can't tell")
	})
}

// lyingDisk acknowledges what it did not do.
type lyingDisk struct{ disk }

func (lyingDisk) syncFile(string) error { return nil }
func (lyingDisk) syncDir(string) error  { return nil }
func (lyingDisk) syncAll() error        { return nil }

// surviving returns how much of what was acknowledged is whole after the loss.
func surviving(t *testing.T, honest bool) (chunks, objects int) {
	dir := t.TempDir()
	image, after := filepath.Join(dir, "disk"), filepath.Join(dir, "after")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
	mnt := mountLoop(t, image)
	d, err := OpenDir(filepath.Join(mnt, "origin"))
	if err != nil {
		t.Fatal(err)
	}
	if !honest {
		d.disk = lyingDisk{d.disk}
	}
	for batch := range uint64(4) {
		for seed := batch * 10; seed < batch*10+10; seed++ {
			putSeeds(t, d, seed)
		}
		if err := d.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	keys := []string{"a", "manifest/b", "working/set/c"}
	for _, key := range keys {
		if err := d.PutObject(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, image, after) // the power goes
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	d, err = OpenDir(filepath.Join(mountLoop(t, after), "origin"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for seed := range uint64(40) {
		name, sealed := storetest.Sealed(seed, 3000)
		if got, err := d.Get(t.Context(), name); err == nil && bytes.Equal(got, sealed) {
			chunks++
		}
	}
	for _, key := range keys {
		if got, err := d.ReadObject(t.Context(), key, 0, 100); err == nil && string(got) == key {
			objects++
		}
	}
	return chunks, objects
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// mountLoop mounts a file system image until the end of the test.
func mountLoop(t *testing.T, image string) string {
	mnt := t.TempDir()
	// The journal must not be written by itself meanwhile.
	run(t, "mount", "-o", "loop,commit=1000", image, mnt)
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	return mnt
}

func copyFile(t *testing.T, from, to string) {
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
}
