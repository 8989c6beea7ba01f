// SPDX-License-Identifier: Apache-2.0

package keep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/keep"
	"thaw.dev/thaw/store"
)

// far is a store that can be away, and counts its reads.
type far struct {
	*store.Mem

	away  atomic.Bool
	reads atomic.Int64
	after func() // runs when an object was read, before its reader has it; nil does nothing
}

var errAway = errors.New("away")

func (f *far) ReadObject(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	f.reads.Add(1)
	if f.away.Load() {
		return nil, errAway
	}
	data, err := f.Mem.ReadObject(ctx, key, off, n)
	if f.after != nil {
		f.after()
	}
	return data, err
}

func sort(key string) keep.Sort {
	switch key[0] {
	case 'f':
		return keep.Fixed
	case 'r':
		return keep.Replaced
	}
	return keep.Never
}

func open(t *testing.T, f *far, dir string, bound int64) *keep.Objects {
	t.Helper()
	k, err := keep.Open(f, keep.Options{Dir: dir, Sort: sort, Bytes: bound})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func read(t *testing.T, k *keep.Objects, key string, off int64, n int, want string) {
	t.Helper()
	got, err := k.ReadObject(t.Context(), key, off, n)
	if err != nil || string(got) != want {
		t.Errorf("%s at %d: %q, %v; want %q", key, off, got, err, want)
	}
}

// TestAReadWithoutTheStore: what was read once is read without the store, by a
// later process too; what may not be kept is not.
func TestAReadWithoutTheStore(t *testing.T) {
	f, dir := &far{Mem: store.NewMem()}, t.TempDir()
	k := open(t, f, dir, 0)
	for _, key := range []string{"fixed", "replaced", "other"} {
		if err := k.PutObject(t.Context(), key, []byte(key+" text")); err != nil {
			t.Fatal(err)
		}
	}
	read(t, k, "fixed", 0, 5, "fixed")
	read(t, k, "fixed", 6, 100, "text")
	read(t, k, "other", 0, 100, "other text")
	before := f.reads.Load()
	read(t, k, "fixed", 0, 5, "fixed")
	if f.reads.Load() != before {
		t.Error("a fixed object was read twice")
	}
	k.Close()
	f.away.Store(true)
	k = open(t, f, dir, 0)
	read(t, k, "fixed", 0, 5, "fixed")
	read(t, k, "fixed", 6, 100, "text")
	read(t, k, "replaced", 0, 100, "replaced text") // by the put, as by a read
	for _, ask := range []struct {
		key string
		off int64
	}{{"fixed", 3}, {"replaced", 3}, {"other", 0}} {
		if got, err := k.ReadObject(t.Context(), ask.key, ask.off, 100); !errors.Is(err, errAway) {
			t.Errorf("%+v: %q, %v", ask, got, err)
		}
	}
	k.Drop()
	if got, err := k.ReadObject(t.Context(), "fixed", 0, 5); err == nil {
		t.Errorf("after a drop: %q", got)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
}

// TestAnotherWorkersChangeIsSeen by the read after the next.
func TestAnotherWorkersChangeIsSeen(t *testing.T) {
	f := &far{Mem: store.NewMem()}
	k := open(t, f, t.TempDir(), 0)
	if err := k.PutObject(t.Context(), "replaced", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := f.PutObject(t.Context(), "replaced", []byte("two")); err != nil { // past k
		t.Fatal(err)
	}
	read(t, k, "replaced", 0, 100, "one")
	for range 10_000 {
		if got, err := k.ReadObject(t.Context(), "replaced", 0, 100); err == nil && string(got) == "two" {
			break
		}
	}
	read(t, k, "replaced", 0, 100, "two")
	if err := k.DeleteObject(t.Context(), "replaced"); err != nil {
		t.Fatal(err)
	}
	if got, err := k.ReadObject(t.Context(), "replaced", 0, 100); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("after its deletion: %q, %v", got, err)
	}
}

// TestReadThatADeletionOvertakes is not kept, whether it was for a caller or behind.
func TestReadThatADeletionOvertakes(t *testing.T) {
	for _, kept := range []bool{false, true} {
		f := &far{Mem: store.NewMem()}
		k := open(t, f, t.TempDir(), 0)
		if err := f.PutObject(t.Context(), "replaced", []byte("old")); err != nil {
			t.Fatal(err)
		}
		if kept {
			read(t, k, "replaced", 0, 100, "old")
		}
		deleted := make(chan error)
		f.after = sync.OnceFunc(func() { deleted <- k.DeleteObject(t.Context(), "replaced") })
		go func() { _, _ = k.ReadObject(t.Context(), "replaced", 0, 100) }()
		if err := <-deleted; err != nil {
			t.Fatal(err)
		}
		k.Close() // what is read behind has ended
		if got, err := k.ReadObject(t.Context(), "replaced", 0, 100); thaw.KindOf(err) != thaw.NotFound {
			t.Errorf("kept before %v: after its deletion: %q, %v", kept, got, err)
		}
	}
}

// TestDamageIsAMiss: a kept file that is torn, changed or another's is fetched
// again, and what a dead process left half-written goes.
func TestDamageIsAMiss(t *testing.T) {
	f, dir := &far{Mem: store.NewMem()}, t.TempDir()
	if err := f.PutObject(t.Context(), "fixed", []byte("right")); err != nil {
		t.Fatal(err)
	}
	for name, harm := range map[string]func(data []byte) []byte{
		"torn":    func(d []byte) []byte { return d[:len(d)-1] },
		"empty":   func([]byte) []byte { return nil },
		"changed": func(d []byte) []byte { return append(bytes.Clone(d[:len(d)-1]), 'x') },
	} {
		k := open(t, f, dir, 0)
		read(t, k, "fixed", 0, 5, "right")
		files, err := os.ReadDir(dir)
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		path := filepath.Join(dir, files[0].Name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, harm(data), 0o600), os.WriteFile(filepath.Join(dir, "new-123"), data, 0o600)); err != nil {
			t.Fatal(err)
		}
		k.Close()
		before := f.reads.Load()
		k = open(t, f, dir, 0)
		read(t, k, "fixed", 0, 5, "right")
		if f.reads.Load() != before+1 {
			t.Errorf("%s: the store was not asked", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "new-123")); err == nil {
			t.Errorf("%s: a half-written file stays", name)
		}
		k.Close()
	}
}

// TestTheDiskIsBounded, and a folder that can't be written to costs nothing but
// what it would have kept.
func TestTheDiskIsBounded(t *testing.T) {
	f, dir := &far{Mem: store.NewMem()}, filepath.Join(t.TempDir(), "kept")
	k := open(t, f, dir, 20_000)
	text := strings.Repeat("x", 1000)
	for i := range 200 {
		key := fmt.Sprintf("fixed-%d", i)
		if err := f.PutObject(t.Context(), key, []byte(text)); err != nil {
			t.Fatal(err)
		}
		read(t, k, key, 0, 2000, text)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 20 || len(files) < 10 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		read(t, k, fmt.Sprintf("fixed-%d", i), 0, 2000, text)
	}
}
