// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
)

// Objects tests [thaw.Objects].
func Objects(t *testing.T, open Open) {
	t.Run("put, read, replace, delete", func(t *testing.T) { objectLife(t, open(t)) })
	t.Run("ranges", func(t *testing.T) { objectRanges(t, open(t)) })
	t.Run("keys", func(t *testing.T) { objectKeys(t, open(t)) })
	t.Run("listing", func(t *testing.T) { objectListing(t, open(t)) })
	t.Run("canceled", func(t *testing.T) { objectsCanceled(t, open(t)) })
	t.Run("a folder is no key", func(t *testing.T) { objectFolders(t, open(t)) })
	t.Run("replacing is atomic", func(t *testing.T) { objectAtomic(t, open(t)) })
	t.Run("folders that come and go", func(t *testing.T) { objectChurn(t, open(t)) })
}

func objectLife(t *testing.T, s Store) {
	ctx := t.Context()
	const key = "manifest/abc-1.2"
	_, err := s.ReadObject(ctx, key, 0, 10)
	wantKind(t, "reading an absent object", err, thaw.NotFound)
	if err := s.DeleteObject(ctx, key); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	for _, text := range []string{"first", "second, longer", "", "4th"} {
		data := []byte(text)
		if err := s.PutObject(ctx, key, data); err != nil {
			t.Fatal(err)
		}
		clear(data)
		got, err := s.ReadObject(ctx, key, 0, 100)
		if err != nil || string(got) != text {
			t.Errorf("read %q, %v; want %q", got, err, text)
		}
		clear(got) // what was returned is the caller's
		if again, _ := s.ReadObject(ctx, key, 0, 100); string(again) != text {
			t.Errorf("after the caller changed its copy the store has %q", again)
		}
	}
	if err := s.DeleteObject(ctx, key); err != nil {
		t.Fatal(err)
	}
	_, err = s.ReadObject(ctx, key, 0, 10)
	wantKind(t, "reading a deleted object", err, thaw.NotFound)
}

func objectRanges(t *testing.T, s Store) {
	_, data := Sealed(1, 100_000)
	if err := s.PutObject(t.Context(), "big", data); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		off  int64
		n    int
		want []byte
	}{
		{0, 100_000, data}, {0, 10, data[:10]}, {5000, 4096, data[5000:9096]},
		{99_990, 100, data[99_990:]}, {100_000, 1, nil}, {1 << 40, 1, nil}, {7, 0, nil},
		{0, math.MaxInt, data}, {math.MaxInt64, math.MaxInt, nil}, {1, math.MaxInt, data[1:]},
	} {
		got, err := s.ReadObject(t.Context(), "big", r.off, r.n)
		if err != nil || !bytes.Equal(got, r.want) {
			t.Errorf("range %d+%d: %d bytes, %v; want %d", r.off, r.n, len(got), err, len(r.want))
		}
	}
	_, err := s.ReadObject(t.Context(), "big", -1, 10)
	wantKind(t, "a negative offset", err, thaw.Invalid)
	_, err = s.ReadObject(t.Context(), "big", 0, -1)
	wantKind(t, "a negative length", err, thaw.Invalid)
}

func objectKeys(t *testing.T, s Store) {
	ctx := t.Context()
	long := strings.Repeat("x", 255)
	for _, key := range []string{"a", "a-b.c/0/9", "...", "-", ".hidden/x..y", long, long + "/" + long + "/b"} {
		if err := s.PutObject(ctx, key, []byte(key)); err != nil {
			t.Errorf("putting %q: %v", key, err)
		}
		if got, err := s.ReadObject(ctx, key, 0, 1000); err != nil || string(got) != key {
			t.Errorf("reading %q: %q, %v", key, got, err)
		}
		if err := s.DeleteObject(ctx, key); err != nil {
			t.Errorf("deleting %q: %v", key, err)
		}
	}
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "A", "a_b", "a b",
		"ä", "a\x00b", "a\\b", "a\n", long + "x", strings.Repeat("x/", 600) + "x"} {
		wantKind(t, fmt.Sprintf("PutObject(%.20q)", key), s.PutObject(ctx, key, nil), thaw.Invalid)
		_, err := s.ReadObject(ctx, key, 0, 1)
		wantKind(t, fmt.Sprintf("ReadObject(%.20q)", key), err, thaw.Invalid)
		wantKind(t, fmt.Sprintf("DeleteObject(%.20q)", key), s.DeleteObject(ctx, key), thaw.Invalid)
	}
	wantKeys(t, s, "")
}

func wantKeys(t *testing.T, s Store, prefix string, want ...string) {
	t.Helper()
	var got []string
	for key, err := range s.ListObjects(t.Context(), prefix) {
		if err != nil {
			t.Errorf("listing %q: %v", prefix, err)
		}
		got = append(got, key)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("listing %q: %q, want %q", prefix, got, want)
	}
}

func objectListing(t *testing.T, s Store) {
	wantKeys(t, s, "")
	all := []string{"manifest/a", "manifest/ab", "manifest/b/c", "manifests/a", "workingset/x/y", "m"}
	for _, key := range all {
		if err := s.PutObject(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	_, sealed := Sealed(1, 10)
	mustPut(t, s, sealed)
	mustSync(t, s) // chunks are no objects
	wantKeys(t, s, "", all...)
	wantKeys(t, s, "m", "manifest/a", "manifest/ab", "manifest/b/c", "manifests/a", "m")
	wantKeys(t, s, "manifest", "manifest/a", "manifest/ab", "manifest/b/c", "manifests/a")
	wantKeys(t, s, "manifest/", "manifest/a", "manifest/ab", "manifest/b/c")
	wantKeys(t, s, "manifest/a", "manifest/a", "manifest/ab")
	wantKeys(t, s, "manifest/b/c", "manifest/b/c")
	wantKeys(t, s, "manifest/b/c/")
	wantKeys(t, s, "x")
	wantKeys(t, s, "../")
	n := 0
	for _, err := range s.ListObjects(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("the listing went on for %d keys after the caller stopped", n)
	}
}

func objectsCanceled(t *testing.T, s Store) {
	if err := s.PutObject(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	ctx := canceled(t)
	wantKind(t, "PutObject", s.PutObject(ctx, "k", []byte("other")), thaw.Canceled)
	wantKind(t, "DeleteObject", s.DeleteObject(ctx, "k"), thaw.Canceled)
	_, err := s.ReadObject(ctx, "k", 0, 1)
	wantKind(t, "ReadObject", err, thaw.Canceled)
	var last error
	for _, err := range s.ListObjects(ctx, "") {
		last = err
	}
	wantKind(t, "ListObjects", last, thaw.Canceled)
	if got, err := s.ReadObject(t.Context(), "k", 0, 10); err != nil || string(got) != "v" {
		t.Errorf("a canceled call changed the object: %q, %v", got, err)
	}
}

// objectFolders: whether a key may be a folder of another is the store's own
// affair, but what it takes it keeps, and what it refuses leaves nothing.
func objectFolders(t *testing.T, s Store) {
	ctx := t.Context()
	if err := s.PutObject(ctx, "a/b/c", []byte("1")); err != nil {
		t.Fatal(err)
	}
	kept := []string{"a/b/c"}
	for _, key := range []string{"a", "a/b", "a/b/c/d", "a/b/c/d/e"} {
		_, err := s.ReadObject(ctx, key, 0, 1)
		wantKind(t, "ReadObject "+key, err, thaw.NotFound)
		if err := s.DeleteObject(ctx, key); err != nil {
			t.Errorf("deleting %s, which is no object: %v", key, err)
		}
		err = s.PutObject(ctx, key, []byte(key))
		if err == nil {
			kept = append(kept, key)
			continue
		}
		wantKind(t, "PutObject "+key+" beside a/b/c", err, thaw.Conflict)
		_, err = s.ReadObject(ctx, key, 0, 1)
		wantKind(t, "ReadObject "+key, err, thaw.NotFound)
	}
	wantKeys(t, s, "", kept...)
	for _, key := range kept {
		if err := s.DeleteObject(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutObject(ctx, "a", []byte("2")); err != nil {
		t.Errorf("a can't be put although a/b/c is gone: %v", err)
	}
	wantKeys(t, s, "", "a")
}

// objectAtomic replaces one object all the time: a reader of all of it sees one
// version, never a mixture or nothing.
func objectAtomic(t *testing.T, s Store) {
	version := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 1000+i*1000) }
	if err := s.PutObject(t.Context(), "x/y", version(0)); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for writer := range 4 {
		group.Go(func() error {
			for i := range 20 {
				if err := s.PutObject(t.Context(), "x/y", version((writer+i)%10)); err != nil {
					return err
				}
			}
			return nil
		})
		group.Go(func() error {
			for range 200 {
				got, err := s.ReadObject(t.Context(), "x/y", 0, 100_000)
				if err != nil {
					return err
				}
				if len(got) == 0 || !bytes.Equal(got, version(int(got[0]-'a'))) {
					return fmt.Errorf("read a mixture of %d bytes", len(got))
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// objectChurn deletes the last object of a folder while others put into it.
func objectChurn(t *testing.T, s Store) {
	var group errgroup.Group
	for i := range 8 {
		group.Go(func() error {
			key := fmt.Sprintf("deep/er/still/%d", i)
			for range 25 {
				if err := s.PutObject(t.Context(), key, []byte(key)); err != nil {
					return err
				}
				if got, err := s.ReadObject(t.Context(), key, 0, 100); err != nil || string(got) != key {
					return fmt.Errorf("read %q: %w", got, err)
				}
				if err := s.DeleteObject(t.Context(), key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	wantKeys(t, s, "")
}
