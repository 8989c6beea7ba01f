// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/store/storetest"
)

// faultyDisk fails calls on demand and counts them.
type faultyDisk struct {
	disk
	mu    sync.Mutex
	calls map[string]int
	fail  func(op string, call int) error // call counts from 1, for each op
}

func (f *faultyDisk) check(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	if f.fail == nil {
		return nil
	}
	return f.fail(op, f.calls[op])
}

// set says which calls fail from now on, counted anew.
func (f *faultyDisk) set(fail func(op string, call int) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.fail = make(map[string]int), fail
}

func (f *faultyDisk) write(path string, data []byte) error {
	if err := f.check("write"); err != nil {
		return err
	}
	return f.disk.write(path, data)
}

func (f *faultyDisk) syncFile(path string) error {
	if err := f.check("syncFile"); err != nil {
		return err
	}
	return f.disk.syncFile(path)
}

func (f *faultyDisk) rename(from, to string) error {
	if err := f.check("rename"); err != nil {
		return err
	}
	return f.disk.rename(from, to)
}

func (f *faultyDisk) syncDir(path string) error {
	if err := f.check("syncDir"); err != nil {
		return err
	}
	return f.disk.syncDir(path)
}

func (f *faultyDisk) syncAll() error {
	if err := f.check("syncAll"); err != nil {
		return err
	}
	return f.disk.syncAll()
}

// failOn fails one call of op.
func failOn(op string, call int, errno syscall.Errno) func(string, int) error {
	return func(o string, c int) error {
		if o == op && c == call {
			return errno
		}
		return nil
	}
}

func openFaulty(t *testing.T) (*Dir, *faultyDisk) {
	t.Helper()
	d, err := OpenDir(filepath.Join(t.TempDir(), "origin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &faultyDisk{disk: d.disk, calls: make(map[string]int)}
	d.disk = f
	return d, f
}

func putSeeds(t *testing.T, d *Dir, seeds ...uint64) {
	t.Helper()
	for _, seed := range seeds {
		_, sealed := storetest.Sealed(seed, 3000)
		if err := d.Put(t.Context(), sealed.Named()); err != nil {
			t.Fatalf("Put: %v", err)
		}
	}
}

func wantHidden(t *testing.T, d *Dir, seeds ...uint64) {
	t.Helper()
	for _, seed := range seeds {
		name, _ := storetest.Sealed(seed, 3000)
		if has, err := d.Has(t.Context(), name); has || err != nil {
			t.Errorf("chunk %d: Has = %v, %v; want false", seed, has, err)
		}
		if _, err := d.Get(t.Context(), name); thaw.KindOf(err) != thaw.NotFound {
			t.Errorf("chunk %d: Get: %v; want not found", seed, err)
		}
		for info := range d.Chunks(t.Context()) {
			if info.Name == name {
				t.Errorf("chunk %d is listed", seed)
			}
		}
	}
}

func wantThere(t *testing.T, d *Dir, seeds ...uint64) {
	t.Helper()
	for _, seed := range seeds {
		name, sealed := storetest.Sealed(seed, 3000)
		got, err := d.Get(t.Context(), name)
		if err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("chunk %d: %d bytes, %v", seed, len(got), err)
		}
		if has, err := d.Has(t.Context(), name); !has || err != nil {
			t.Errorf("chunk %d: Has = %v, %v; want true", seed, has, err)
		}
	}
}

func wantTemps(t *testing.T, d *Dir, want int) {
	t.Helper()
	entries, err := os.ReadDir(d.temp.path)
	if err != nil || len(entries) != want {
		t.Errorf("%d temporary files, %v; want %d", len(entries), err, want)
	}
}

// TestSyncFails fails each step of a Sync. Nothing may be seen of what was not
// made durable, and nothing may be lost: not even for an ingest that did not
// call the Sync that failed.
func TestSyncFails(t *testing.T) {
	for _, step := range []struct {
		name     string
		fail     func(string, int) error
		rewrites int // chunks whose bytes must be written anew, because the kernel may have dropped them
	}{
		{"contents", failOn("syncAll", 1, syscall.EIO), 5},
		{"first rename", failOn("rename", 1, syscall.ENOSPC), 0},
		{"third rename", failOn("rename", 3, syscall.EIO), 0},
		{"names", failOn("syncAll", 2, syscall.EIO), 5},
	} {
		t.Run(step.name, func(t *testing.T) {
			d, disk := openFaulty(t)
			putSeeds(t, d, 1, 2, 3, 4, 5)
			disk.set(step.fail)
			err := d.Sync(t.Context())
			if thaw.KindOf(err) != thaw.Unavailable {
				t.Fatalf("Sync: %v; want an error of kind unavailable", err)
			}
			wantHidden(t, d, 1, 2, 3, 4, 5)

			disk.set(nil)
			putSeeds(t, d, 2, 6) // one is still known, one is new
			wantHidden(t, d, 1, 2, 3, 4, 5, 6)
			if err := d.Sync(t.Context()); err != nil {
				t.Fatalf("Sync on the mended disk: %v", err)
			}
			if got := disk.calls["write"]; got != step.rewrites+1 {
				t.Errorf("%d chunks were written, want %d anew and one new", got, step.rewrites)
			}
			wantThere(t, d, 1, 2, 3, 4, 5, 6)
			wantTemps(t, d, 0)
		})
	}
}

// TestSyncFailsTwice fails the rewriting, too.
func TestSyncFailsTwice(t *testing.T) {
	d, disk := openFaulty(t)
	putSeeds(t, d, 1, 2)
	disk.set(failOn("syncAll", 2, syscall.EIO)) // renamed, names in doubt
	if d.Sync(t.Context()) == nil {
		t.Fatal("Sync succeeded on a failing disk")
	}
	disk.set(failOn("write", 1, syscall.ENOSPC))
	if err := d.Sync(t.Context()); thaw.KindOf(err) != thaw.Unavailable {
		t.Fatalf("Sync: %v; want an error of kind unavailable", err)
	}
	disk.set(nil)
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantThere(t, d, 1, 2)
}

// TestLost has the kernel drop what it failed to write: the chunk can only come
// back by another Put, and until then every Sync fails, since whoever put it
// may rely on any of them.
func TestLost(t *testing.T) {
	d, disk := openFaulty(t)
	putSeeds(t, d, 1, 2)
	disk.set(failOn("syncAll", 1, syscall.EIO))
	if d.Sync(t.Context()) == nil {
		t.Fatal("Sync succeeded on a failing disk")
	}
	disk.set(nil)
	name, sealed := storetest.Sealed(1, 3000)
	d.mu.Lock()
	path := d.pending[name].path
	d.mu.Unlock()
	if err := os.WriteFile(path, make([]byte, 3000), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Sync(t.Context()); thaw.KindOf(err) != thaw.Unavailable {
			t.Errorf("Sync: %v; want an error of kind unavailable", err)
		}
		wantHidden(t, d, 1)
		wantThere(t, d, 2)
	}
	disk.set(failOn("write", 1, syscall.ENOSPC))
	if err := d.Put(t.Context(), sealed.Named()); thaw.KindOf(err) != thaw.Unavailable {
		t.Errorf("Put: %v; want an error of kind unavailable", err)
	}
	if d.Sync(t.Context()) == nil {
		t.Error("Sync forgot a lost chunk because putting it again failed")
	}
	putSeeds(t, d, 1)
	if err := d.Sync(t.Context()); err != nil {
		t.Errorf("Sync after the lost chunk was put again: %v", err)
	}
	wantThere(t, d, 1, 2)
}

// TestPutFails fails the writing of a chunk while others wait for it: one of
// them takes over.
func TestPutFails(t *testing.T) {
	d, disk := openFaulty(t)
	disk.set(failOn("write", 1, syscall.ENOSPC))
	_, sealed := storetest.Sealed(1, 3000)
	errs := make([]error, 8)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { errs[i] = d.Put(t.Context(), sealed.Named()) })
	}
	group.Wait()
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
			if thaw.KindOf(err) != thaw.Unavailable {
				t.Errorf("Put: %v; want an error of kind unavailable", err)
			}
		}
	}
	if failed != 1 || disk.calls["write"] != 2 {
		t.Errorf("%d Puts failed and %d wrote, want 1 and 2", failed, disk.calls["write"])
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantThere(t, d, 1)
}

// TestPutObjectFails fails each step before the object is replaced: the old one
// stays, and no temporary file.
func TestPutObjectFails(t *testing.T) {
	for _, op := range []string{"write", "syncFile", "rename"} {
		t.Run(op, func(t *testing.T) {
			d, disk := openFaulty(t)
			if err := d.PutObject(t.Context(), "a/b", []byte("old")); err != nil {
				t.Fatal(err)
			}
			disk.set(failOn(op, 1, syscall.EIO))
			err := d.PutObject(t.Context(), "a/b", []byte("new"))
			if thaw.KindOf(err) != thaw.Unavailable {
				t.Errorf("PutObject: %v; want an error of kind unavailable", err)
			}
			if got, err := d.ReadObject(t.Context(), "a/b", 0, 10); err != nil || string(got) != "old" {
				t.Errorf("ReadObject: %q, %v", got, err)
			}
			wantTemps(t, d, 0)
		})
	}
	d, disk := openFaulty(t)
	disk.set(failOn("syncDir", 1, syscall.EIO))
	if d.PutObject(t.Context(), "a/b", []byte("new")) == nil {
		t.Error("PutObject succeeded although its name may not be durable")
	}
}
