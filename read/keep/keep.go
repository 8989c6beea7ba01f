// SPDX-License-Identifier: Apache-2.0

// Package keep holds on the worker's disk the small objects of a far store that
// a start asks for, manifests and working sets, so that a start whose chunks are
// in L1 needs nothing of the store. It is a cache: bounded, never waited for when
// it writes, checked when it is read, and empty is as good as any other state.
//
// A manifest is named by its hash and never changes, so it is taken from the disk
// where it is there. A working set may have been replaced by another worker: it
// is taken from the disk, and read again behind for the next start. All other
// objects, and all changes, go to the store.
package keep

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/s3fifo"
)

// Sort says how an object may be kept.
type Sort uint8

// The sorts.
const (
	Never    Sort = iota // it is not kept
	Fixed                // it never changes: each range read of it is kept
	Replaced             // it may be replaced as a whole, by any worker
)

const (
	// DefaultBytes holds the manifests of hundreds of images.
	DefaultBytes = 256 << 20

	// maxRefreshes bounds the reads behind; those beyond are left out.
	maxRefreshes = 8

	sumBytes = sha256.Size
)

// Options make an [Objects].
type Options struct {
	Dir   string                // made if absent; required
	Bytes int64                 // bound; zero means DefaultBytes
	Sort  func(key string) Sort // required
	Log   *slog.Logger          // nil means slog.Default
}

// Objects is a far store with what is kept of it. Use [Open]. It is safe for
// concurrent use.
type Objects struct {
	thaw.Objects // the far store

	opts      Options
	refreshes chan struct{} // one for each read behind
	behind    sync.WaitGroup
	life      context.Context //nolint:containedctx // reads behind end with it
	stop      context.CancelFunc

	settling sync.Mutex // held, before mu, while what is kept is made to agree with the far store

	mu     sync.Mutex
	files  *s3fifo.Cache[string, int64] // file name to size
	puts   int                          // grows with each change: what is read behind meanwhile may be older
	doomed []string                     // evicted under mu, to be removed after it
}

// Open returns far with what an earlier process kept of it. Close it when done.
func Open(far thaw.Objects, o Options) (*Objects, error) {
	op := "keep: open " + o.Dir
	if o.Bytes == 0 {
		o.Bytes = DefaultBytes
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	k := &Objects{Objects: far, opts: o, refreshes: make(chan struct{}, maxRefreshes)}
	k.life, k.stop = context.WithCancel(context.Background())
	k.files = s3fifo.New(o.Bytes, func(name string, _ int64) { k.doomed = append(k.doomed, name) })
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || len(entry.Name()) != 2*sha256.Size {
			k.doomed = append(k.doomed, entry.Name()) // half written, or not ours
			continue
		}
		k.files.Add(entry.Name(), info.Size(), info.Size())
	}
	k.sweep()
	return k, nil
}

// Close waits for what is read behind. The far store is not closed.
func (k *Objects) Close() {
	k.stop()
	k.behind.Wait()
}

// Drop forgets everything that is kept.
func (k *Objects) Drop() {
	k.mu.Lock()
	for item := range k.files.Items() {
		k.doomed = append(k.doomed, item.Key)
	}
	k.files.Clear()
	k.mu.Unlock()
	k.sweep()
}

// ReadObject implements [thaw.Objects].
func (k *Objects) ReadObject(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	sort := k.opts.Sort(key)
	if sort == Replaced && off != 0 {
		sort = Never // it is kept as a whole
	}
	if sort == Never {
		return k.Objects.ReadObject(ctx, key, off, n)
	}
	name := fileName(sort, key, off, n)
	if data, ok := k.get(name); ok && len(data) <= n {
		if sort == Replaced {
			k.refresh(key, n, name)
		}
		return data, nil
	}
	before := k.changes(0)
	data, err := k.Objects.ReadObject(ctx, key, off, n)
	if err == nil && (sort == Fixed || len(data) < n) {
		k.unlessChanged(before, func() { k.put(name, data) })
	}
	return data, err
}

// PutObject implements [thaw.Objects].
func (k *Objects) PutObject(ctx context.Context, key string, data []byte) error {
	err := k.Objects.PutObject(ctx, key, data)
	if k.opts.Sort(key) == Replaced {
		k.settling.Lock()
		defer k.settling.Unlock()
		k.changes(1)
		name := fileName(Replaced, key, 0, 0)
		k.forget(name)
		if err == nil {
			k.put(name, data)
		}
	}
	return err
}

// DeleteObject implements [thaw.Objects].
func (k *Objects) DeleteObject(ctx context.Context, key string) error {
	err := k.Objects.DeleteObject(ctx, key)
	if k.opts.Sort(key) == Replaced {
		k.settling.Lock()
		defer k.settling.Unlock()
		k.changes(1)
		k.forget(fileName(Replaced, key, 0, 0))
	}
	return err
}

// unlessChanged calls keep with what was read after so many changes, unless
// there were more: it may be older than they.
func (k *Objects) unlessChanged(before int, keep func()) {
	k.settling.Lock()
	defer k.settling.Unlock()
	if k.changes(0) == before {
		keep()
	}
}

// fileName is the name of what is kept of an object, or of a range of a fixed one.
func fileName(sort Sort, key string, off int64, n int) string {
	text := key
	if sort == Fixed {
		text += "\x00" + strconv.FormatInt(off, 10) + "\x00" + strconv.Itoa(n)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// refresh reads an object again behind.
func (k *Objects) refresh(key string, n int, name string) {
	select {
	case k.refreshes <- struct{}{}:
	default:
		return
	}
	before := k.changes(0)
	k.behind.Go(func() {
		defer func() { <-k.refreshes }()
		data, err := k.Objects.ReadObject(k.life, key, 0, n)
		switch {
		case err == nil && len(data) < n:
			k.unlessChanged(before, func() { k.put(name, data) })
		case thaw.KindOf(err) == thaw.NotFound:
			k.unlessChanged(before, func() { k.forget(name) })
		}
	})
}

// changes counts more changes, and returns how many there were.
func (k *Objects) changes(more int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.puts += more
	return k.puts
}

// get returns what a file holds, if that is what was written to it.
func (k *Objects) get(name string) ([]byte, bool) {
	k.mu.Lock()
	_, ok := k.files.Get(name)
	k.mu.Unlock()
	if !ok {
		return nil, false
	}
	data, err := os.ReadFile(filepath.Join(k.opts.Dir, name))
	if err == nil && len(data) >= sumBytes && bytes.Equal(sum(name, data[sumBytes:]), data[:sumBytes]) {
		return data[sumBytes:], true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		k.opts.Log.Warn("dropped a kept object that is damaged; it is fetched again", "err", err)
	}
	k.forget(name)
	return nil, false
}

// sum binds bytes to their name.
func sum(name string, data []byte) []byte {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write(data) // neither fails
	return h.Sum(nil)
}

// put keeps data, unless the disk has no room for it.
func (k *Objects) put(name string, data []byte) {
	size := int64(sumBytes + len(data))
	temp, err := os.CreateTemp(k.opts.Dir, "new-")
	if err != nil {
		return // it is only a cache
	}
	_, err = temp.Write(append(sum(name, data), data...))
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), filepath.Join(k.opts.Dir, name))
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return
	}
	k.mu.Lock()
	k.files.Remove(name)
	k.files.Add(name, size, size)
	k.mu.Unlock()
	k.sweep()
}

func (k *Objects) forget(name string) {
	k.mu.Lock()
	k.files.Remove(name)
	k.doomed = append(k.doomed, name)
	k.mu.Unlock()
	k.sweep()
}

// sweep removes the files that are not kept any more.
func (k *Objects) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range k.doomed {
		if !k.files.Has(name) {
			_ = os.Remove(filepath.Join(k.opts.Dir, name)) // one that stays is found by the next Open
		}
	}
	k.doomed = nil
}
