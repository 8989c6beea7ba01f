// SPDX-License-Identifier: Apache-2.0

package tmpdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/sandbox"
)

const mib = 1 << 20

// host returns a folder on a file system of its own, of that size: a disk. It
// holds files of some bytes more than that.
func host(t *testing.T, bytes int64) string {
	t.Helper()
	testkit.RequireRoot(t)
	maker := &Store{config: Config{Dir: t.TempDir()}, all: map[*Disk]struct{}{}}
	d, err := maker.make(bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return path(d)
}

// path is the root folder of a disk, which is mounted nowhere.
func path(d *Disk) string { return fmt.Sprintf("/proc/self/fd/%d", d.dir.Fd()) }

// open opens a store and stops its watch, so that the test alone looks.
func open(t *testing.T, c Config) *Store {
	t.Helper()
	testkit.RequireRoot(t)
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.working.Wait()
	return s
}

func take(t *testing.T, s *Store, bytes int64) *Disk {
	t.Helper()
	d, err := s.Take("", bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	return d
}

// fill writes a file, has it on the host, and returns how many MiB it took.
func fill(t *testing.T, dir, name string, mb int) (int, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, mib)
	for i := range mb {
		if _, err := f.Write(block); err != nil {
			return i, err
		}
	}
	return mb, f.Sync()
}

// TestFullHost: where the host's disk is full, functions get ENOSPC and what
// they were promised is written; with room again they write on; what deleted
// files had goes back to the host.
func TestFullHost(t *testing.T) {
	dir := host(t, 300*mib)
	s := open(t, Config{Dir: dir, Ahead: 1})
	d := take(t, s, sandbox.DefaultTmpBytes)
	written := 0
	for ; written < 500 && !s.Stats().Full; written += 10 {
		if _, err := fill(t, path(d), fmt.Sprint(written), 10); err != nil {
			t.Fatalf("after %d MiB: %v", written, err)
		}
		s.check()
	}
	if written < 150 || written > 290 {
		t.Errorf("full after %d MiB of a host's 300, 64 of them kept", written)
	}
	if _, why := s.room(s.use()); !strings.Contains(why, "file system is nearly full") || !strings.Contains(why, "64 MB are kept free") {
		t.Errorf("the log would say %q", why)
	}
	if n, err := fill(t, path(d), "more", 10); !errors.Is(err, unix.ENOSPC) || n > 0 {
		t.Errorf("%d MiB more, %v", n, err)
	}
	if d := take(t, s, sandbox.DefaultTmpBytes); !strings.Contains(d.Short(), "ENOSPC") {
		t.Errorf("a disk that is made meanwhile says %q", d.Short())
	}
	for i := 0; i < written; i += 10 {
		if err := os.Remove(filepath.Join(path(d), fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	s.check() // gives back what the files had
	s.check()
	if now := s.Stats(); now.Full || now.Bytes > 20*mib {
		t.Errorf("with all files deleted: %+v", now)
	}
	if n, err := fill(t, path(d), "again", 20); err != nil {
		t.Errorf("with room again: %d MiB, %v", n, err)
	}
}

// TestNoByteFree: where the host has not a byte a start still gets a /tmp, of 1
// MB, and a disk that waits serves.
func TestNoByteFree(t *testing.T) {
	dir := host(t, 200*mib)
	s := open(t, Config{Dir: dir, Ahead: 1})
	for _, block := range []int{mib, 4096} {
		f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		for err == nil {
			_, err = f.Write(make([]byte, block))
		}
		_ = f.Close()
	}
	s.check()
	waited := take(t, s, sandbox.DefaultTmpBytes)
	if waited.file == nil || !strings.Contains(waited.Short(), "takes no files now") {
		t.Errorf("one that waited says %q", waited.Short())
	}
	for i := range 100 { // need no block of their own, and must not be its end
		if err := os.WriteFile(filepath.Join(path(waited), fmt.Sprint("empty", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Syncfs(int(waited.dir.Fd())); err != nil {
		t.Errorf("where the host is full: %v", err)
	}
	d := take(t, s, sandbox.DefaultTmpBytes)
	if !strings.Contains(d.Short(), "/tmp holds 1 MB") {
		t.Fatalf("one that is made says %q", d.Short())
	}
	root, err := openRoot(d.root)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if n, err := fill(t, fmt.Sprintf("/proc/self/fd/%d", root.Fd()), "x", 3); n != 1 || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("it took %d MiB, %v", n, err)
	}
	// A store that is opened then starts as well.
	open(t, Config{Dir: dir})
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	s.check()
	if n, err := fill(t, path(waited), "x", 3); err != nil {
		t.Errorf("with room again: %d MiB, %v", n, err)
	}
}

// TestFolderRemoved: disks are made although somebody has removed the folder.
func TestFolderRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tmp")
	s := open(t, Config{Dir: dir})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := fill(t, path(take(t, s, sandbox.DefaultTmpBytes)), "x", 1); err != nil {
		t.Errorf("%d MiB, %v", n, err)
	}
}

// TestBound: all disks together hold no more than the bound, and one that is to
// be larger than the default is refused with the numbers.
func TestBound(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Bytes: 100 * mib})
	a, b := take(t, s, sandbox.DefaultTmpBytes), take(t, s, sandbox.DefaultTmpBytes)
	if _, err := fill(t, path(a), "x", 60); err != nil {
		t.Fatal(err)
	}
	s.check()
	if now := s.Stats(); now.Full || now.Bytes < 60*mib || now.Bytes > 80*mib || now.Bound != 100*mib || now.Disks != 2 {
		t.Errorf("with 60 MiB: %+v", now)
	}
	_, err := s.Take("", 1024*mib)
	short, ok := errors.AsType[*sandbox.TmpShortError](err)
	if !ok || short.Wanted != 1024*mib || !strings.Contains(err.Error(), " 2") {
		t.Errorf("1 GiB of 30 MiB: %v", err)
	} else if text := short.Error(); strings.ContainsAny(strings.Replace(text, "1024 MB", "", 1), "0123456789") {
		t.Errorf("the owner would learn what is free: %v", text)
	}
	if _, err := fill(t, path(b), "x", 45); err != nil {
		t.Fatal(err)
	}
	s.check()
	for _, d := range []*Disk{a, b} {
		if n, err := fill(t, path(d), "y", 1); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("past the bound: %d MiB, %v", n, err)
		}
	}
	if _, why := s.room(s.use()); !strings.Contains(why, "all /tmp together hold 1") {
		t.Errorf("the log would say %q", why)
	}
	b.Release()
	s.closing.Wait()
	s.check()
	if n, err := fill(t, path(a), "y", 1); err != nil {
		t.Errorf("with the other gone: %d MiB, %v", n, err)
	}
}

// TestOwners: an owner that fills its disks leaves as much to the others, and
// writes on once it holds less.
func TestOwners(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Bytes: 300 * mib, Ahead: 1})
	of := func(owner string) *Disk {
		t.Helper()
		d, err := s.Take(owner, sandbox.DefaultTmpBytes)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Release)
		return d
	}
	greedy, other := of("greedy"), of("other")
	written := 0
	for ; written < 300; written += 10 {
		if _, err := fill(t, path(greedy), fmt.Sprint(written), 10); err != nil {
			break
		}
		s.check()
	}
	if written < 110 || written > 160 {
		t.Errorf("the first took %d MiB of 300", written)
	}
	if now := s.Stats(); now.Full || now.Short != 1 {
		t.Errorf("%+v", now)
	}
	if second := of("greedy"); !strings.Contains(second.Short(), "of this account") {
		t.Errorf("its next disk says %q", second.Short())
	} else if n, err := fill(t, path(second), "x", 1); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("its next disk took %d MiB, %v", n, err)
	}
	for _, d := range []*Disk{other, of("third")} {
		if n, err := fill(t, path(d), "x", 20); err != nil || d.Short() != "" {
			t.Errorf("another's took %d MiB of 20, %v; %q", n, err, d.Short())
		}
		s.check()
	}
	for i := 0; i < written; i += 10 {
		if err := os.Remove(filepath.Join(path(greedy), fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	s.check() // gives back what the files had
	s.check()
	if n, err := fill(t, path(greedy), "again", 20); err != nil || s.Stats().Short != 0 {
		t.Errorf("with its files deleted: %d MiB, %v, %+v", n, err, s.Stats())
	}
}

// TestNothingStays: a hundred disks at once work, and of none anything is left
// but for a moment, not even if it has much that is not written yet.
func TestNothingStays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, Ahead: 3})
	devices := map[string]bool{}
	for i := range 100 {
		d := take(t, s, sandbox.DefaultTmpBytes)
		devices[d.device] = true
		if i%10 == 0 {
			if err := os.WriteFile(filepath.Join(path(d), "x"), make([]byte, 20*mib), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
			t.Fatalf("the host's folder has %v, %v", names, err)
		}
	}
	if len(devices) != 100 {
		t.Errorf("%d devices", len(devices))
	}
	if err := s.Ready(t.Context()); err != nil { // none is made any more, then
		t.Fatal(err)
	}
	for d := range s.all {
		d.Release()
	}
	s.closing.Wait()
	if now := s.Stats(); now.Disks != 0 || now.Bytes != 0 {
		t.Errorf("with all released: %+v", now)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var left []string
		for device := range devices {
			if _, err := os.Stat("/sys/block/" + device + "/loop/backing_file"); err == nil {
				text, _ := os.ReadFile("/sys/block/" + device + "/loop/backing_file")
				if strings.HasPrefix(string(text), dir) {
					left = append(left, device)
				}
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v are left", left)
		}
	}
}
