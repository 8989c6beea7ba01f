// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPack: what a version's first start has read is packed, and the next start
// with nothing cached fetches that and little else. A pack that is damaged does
// no harm and is made anew.
func TestPack(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	client := w.create(ctx, "hello", w.push("py-hello:1", "hello:v1"))
	round := 0
	start := func() (fetched int64) { // a cold one
		t.Helper()
		if round > 0 {
			w.cold(ctx, client, "hello", round)
		}
		round++
		before := w.tier("origin").Bytes
		if answer, failed := invoke(ctx, t, client, "hello", `{"name":"pack"}`); failed != "" {
			t.Fatalf("%s: %s", failed, answer)
		}
		return w.tier("origin").Bytes - before
	}
	first := start()
	segments := w.segments(func([]string) bool { return true })
	second := start()
	if second*2 > first {
		t.Errorf("the first start fetched %d bytes, the second %d", first, second)
	}
	stamps := map[string]time.Time{}
	for _, path := range segments {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] ^= 1
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		stamps[path] = modified(path)
	}
	if third := start(); third < first/2 {
		t.Errorf("a start whose pack is damaged fetched %d bytes, the first %d", third, first)
	}
	w.segments(func(files []string) bool {
		renewed := 0
		for _, path := range files {
			if at, known := stamps[path]; !known || !modified(path).Equal(at) {
				renewed++
			}
		}
		return renewed == len(files)
	})
	if fourth := start(); fourth*2 > first {
		t.Errorf("with a new pack %d bytes were fetched, %d at first", fourth, first)
	}
}

// segments waits until the stored packs are as wanted, then for the record that
// names them, and returns their files.
func (w *world) segments(want func(files []string) bool) []string {
	w.t.Helper()
	for deadline := time.Now().Add(waitBound); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		packs, sets := filesBelow(filepath.Join(w.Data, "origin", "objects", "pack")), filesBelow(filepath.Join(w.Data, "origin", "objects", "workingset"))
		if len(packs) == 0 || len(sets) != 1 || !want(packs) {
			continue
		}
		newest := modified(packs[0])
		for _, path := range packs {
			if at := modified(path); at.After(newest) {
				newest = at
			}
		}
		if !modified(sets[0]).Before(newest) { // a file system's clock may tick in steps that hold both writes
			return packs
		}
	}
	w.t.Fatal("the working set is not packed")
	return nil
}

func filesBelow(dir string) []string {
	var files []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what is not there yet has none
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	return files
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
