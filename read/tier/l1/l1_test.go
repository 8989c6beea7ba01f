// SPDX-License-Identifier: Apache-2.0

package l1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/read/tier"
)

var (
	_ tier.Cache = (*Memory)(nil)
	_ tier.Cache = (*Disk)(nil)
)

func chunk(seed uint64, n int) (thaw.ChunkName, thaw.SealedChunk) {
	r := rand.New(rand.NewPCG(seed, 0))
	sealed := make(thaw.SealedChunk, n)
	for i := range sealed {
		sealed[i] = byte(r.Uint32())
	}
	return thaw.NameOf(sealed), sealed
}

func open(t *testing.T, o Options) *L1 {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// flush waits until all that was put is written or was given up.
func flush(t *testing.T, d *Disk) {
	t.Helper()
	for d.stats().Waiting > 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("the writer does not come to an end")
		default:
			unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
		}
	}
}

func has(l *L1, name thaw.ChunkName) bool {
	sealed, ok := l.Disk.Get(context.Background(), name)
	return ok && thaw.NameOf(sealed) == name
}

func TestSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	var names []thaw.ChunkName
	for i := range uint64(50) {
		name, sealed := chunk(i, 1000+int(i)*997)
		l.Disk.Put(name, sealed)
		names = append(names, name)
	}
	flush(t, l.Disk)
	before := l.Stats()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir})
	defer l.Close()
	for i, name := range names {
		if !has(l, name) {
			t.Errorf("chunk %d is lost", i)
		}
	}
	if st := l.Stats(); st.DiskChunks != 50 || st.DiskBytes != before.DiskBytes {
		t.Errorf("before %+v, after %+v", before, st)
	}
}

// After a crash there is no order, or an old one, and files may be torn.
func TestSurvivesACrash(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	var names []thaw.ChunkName
	for i := range uint64(20) {
		name, sealed := chunk(i, 5000)
		l.Disk.Put(name, sealed)
		names = append(names, name)
	}
	flush(t, l.Disk)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	damage := func(i int, f func(path string) error) {
		t.Helper()
		if err := f(l.Disk.path(chunkFile{names[i], 5000})); err != nil {
			t.Fatal(err)
		}
	}
	damage(0, os.Remove)
	damage(1, func(p string) error { return os.Truncate(p, 100) })
	damage(2, func(p string) error { return os.WriteFile(p, make([]byte, 5000), 0o600) })
	if err := os.WriteFile(filepath.Join(dir, "order"), []byte("thawl1o\x01 nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp", "chunk"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir})
	defer l.Close()
	for i, name := range names {
		if got := has(l, name); got != (i > 2) {
			t.Errorf("chunk %d: %v", i, got)
		}
	}
	if st := l.Stats(); st.Corrupt != 2 || st.DiskChunks != 17 {
		t.Errorf("%+v", st)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) != 0 {
		t.Error("leftovers in tmp")
	}
	name, sealed := chunk(1, 5000)
	l.Disk.Put(name, sealed)
	flush(t, l.Disk)
	if !has(l, name) {
		t.Error("a corrupt chunk can't be cached again")
	}
}

func TestKeepsToItsBound(t *testing.T) {
	dir := t.TempDir()
	const bound = 1 << 20
	l := open(t, Options{Dir: dir, DiskBytes: bound})
	for i := range uint64(200) {
		name, sealed := chunk(i, 20_000)
		l.Disk.Put(name, sealed)
		flush(t, l.Disk)
	}
	check := func(bound int64) {
		t.Helper()
		var onDisk int64
		files, _ := filepath.Glob(filepath.Join(dir, "??", "*"))
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			onDisk += blockCost(info.Size())
		}
		if st := l.Stats(); onDisk > bound+blockCost(20_000) || st.DiskBytes > bound {
			t.Errorf("%d bytes on disk, %d in the books, bound %d", onDisk, st.DiskBytes, bound)
		}
	}
	check(bound)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir, DiskBytes: bound / 4}) // the operator made it smaller
	name, sealed := chunk(1000, 20_000)
	l.Disk.Put(name, sealed)
	flush(t, l.Disk)
	check(bound / 4)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheOrderOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	const n = 40
	o := Options{Dir: dir, DiskBytes: n * 8192}
	l := open(t, o)
	var used []thaw.ChunkName
	for i := range uint64(n) {
		name, sealed := chunk(i, 8000)
		l.Disk.Put(name, sealed)
		flush(t, l.Disk)
		if i < n/2 {
			used = append(used, name)
		}
	}
	for range 3 {
		for _, name := range used {
			has(l, name)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, o)
	defer l.Close()
	for i := range uint64(10 * n) {
		name, sealed := chunk(1000+i, 8000)
		l.Disk.Put(name, sealed)
		flush(t, l.Disk)
	}
	for i, name := range used {
		if !has(l, name) {
			t.Errorf("used chunk %d was evicted by a scan after the restart", i)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); thaw.KindOf(err) != thaw.Unavailable {
		t.Errorf("a second Open: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDropWhileItIsUsed(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, QueueBytes: 1 << 30})
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			for i := range uint64(200) {
				name, sealed := chunk(w*1000+i, 3000)
				l.Disk.Put(name, sealed)
				l.Memory.Put(name, sealed)
				if got, ok := l.Disk.Get(t.Context(), name); ok && !bytes.Equal(got, sealed) {
					t.Error("wrong bytes")
				}
			}
		})
	}
	for range 20 {
		l.Drop()
	}
	wg.Wait()
	flush(t, l.Disk)
	l.Drop()
	flush(t, l.Disk)
	if st := l.Stats(); st.DiskChunks != 0 || st.MemoryChunks != 0 || st.Corrupt != 0 || st.DiskBytes != 0 {
		t.Errorf("%+v", st)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "??", "*")); len(files) != 0 {
		t.Errorf("%d files left", len(files))
	}
}

func TestFullQueueSheds(t *testing.T) {
	l := open(t, Options{Dir: t.TempDir(), QueueBytes: 10_000})
	defer l.Close()
	l.Disk.mu.Lock() // the writer stands still
	d := l.Disk
	d.queueMax = 10_000
	d.mu.Unlock()
	for i := range uint64(3000) {
		name, sealed := chunk(i, 6000)
		d.Put(name, sealed)
	}
	flush(t, d)
	st := l.Stats()
	if st.Shed == 0 || st.Shed+st.Written != 3000 {
		t.Errorf("%d shed, %d written, of 3000", st.Shed, st.Written)
	}
}

// A full disk is no error of a read: the cache gives back room, and serves
// what it has.
func TestFullDiskSheds(t *testing.T) {
	testkit.RequireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	l := open(t, Options{Dir: filepath.Join(dir, "l1"), DiskBytes: 1 << 30})
	for i := range uint64(200) {
		name, sealed := chunk(i, 50_000)
		l.Disk.Put(name, sealed)
		flush(t, l.Disk)
	}
	st := l.Stats()
	if st.NoSpaceErrors == 0 || st.DiskChunks < 10 || st.Corrupt != 0 || st.DiskBytes > 2<<20 {
		t.Errorf("%+v", st)
	}
	served := 0
	for i := range uint64(200) {
		name, _ := chunk(i, 50_000)
		if has(l, name) {
			served++
		}
	}
	if served != st.DiskChunks {
		t.Errorf("%d chunks served, %d in the books", served, st.DiskChunks)
	}
	if err := l.Close(); err != nil {
		t.Error(fmt.Errorf("close on a full disk: %w", err))
	}
}

// TestComplaintsCountAnew: a line tells of the writes that failed since the last
// one, not of all that ever failed.
func TestComplaintsCountAnew(t *testing.T) {
	var out bytes.Buffer
	d := &Disk{log: slog.New(slog.NewTextHandler(&out, nil))}
	now := time.Unix(1e9, 0)
	for i := range 5 { // told, three not, told
		d.complain(now.Add(time.Duration(i)*complainEvery/4), errors.New("full"))
	}
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), "failed=1\n") || !strings.Contains(out.String(), "failed=4\n") {
		t.Errorf("%d lines:\n%s", got, out.String())
	}
}

func BenchmarkDiskGet(b *testing.B) {
	l, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	name, sealed := chunk(1, thaw.MaxChunkBytes)
	l.Disk.Put(name, sealed)
	for l.Stats().Waiting > 0 {
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	b.SetBytes(int64(len(sealed)))
	for b.Loop() {
		if _, ok := l.Disk.Get(b.Context(), name); !ok {
			b.Fatal("lost")
		}
	}
}
