// SPDX-License-Identifier: Apache-2.0

package l1

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/s3fifo"
)

// Disk holds sealed chunks as files, one a chunk:
//
//	<dir>/3f/<name>.<size>   a chunk; the size makes a scan without stat possible
//	<dir>/tmp/               files being written
//	<dir>/order              the eviction order at the last save, a hint
//	<dir>/lock               held by the process that has it open
//
// It implements tier.Cache and is safe for concurrent use.
type Disk struct {
	dir        string
	bound      int64 // configured
	queueMax   int64
	writeAfter time.Duration
	log        *slog.Logger
	lock       *os.File
	stop       chan struct{}
	writer     sync.WaitGroup
	wake       chan struct{} // holds a token while the writer has something to do
	pressed    chan struct{} // holds a token once what waits fills half of the queue

	complained time.Time // of the writer alone: when it last logged failed writes
	untold     int64     // likewise: those since then

	written, evicted, shed, corrupt, readErrors, writeErrors, noSpace atomic.Int64

	mu      sync.Mutex
	files   *s3fifo.Cache[thaw.ChunkName, int64] // name -> size of the file
	doomed  []chunkFile                          // evicted, to be deleted by the writer
	queue   []thaw.ChunkName                     // to be written, oldest first
	waiting map[thaw.ChunkName]thaw.SealedChunk  // the chunks of queue
	bytes   int64                                // of waiting
	epoch   int                                  // grows with each Drop: what was begun before is void
	changed bool                                 // since the order was last saved
}

type chunkFile struct {
	name thaw.ChunkName
	size int64
}

// blockCost is what a file takes on disk.
func blockCost(size int64) int64 { return (size + thaw.BlockBytes - 1) &^ (thaw.BlockBytes - 1) }

func (d *Disk) path(f chunkFile) string {
	hex := f.name.String()
	return filepath.Join(d.dir, hex[:2], hex+"."+strconv.FormatInt(f.size, 10))
}

func openDisk(o Options) (*Disk, error) {
	d := &Disk{
		dir: o.Dir, bound: o.DiskBytes, queueMax: o.QueueBytes, writeAfter: o.WriteAfter, log: o.Log,
		stop: make(chan struct{}), wake: make(chan struct{}, 1), pressed: make(chan struct{}, 1),
		waiting: map[thaw.ChunkName]thaw.SealedChunk{},
	}
	d.files = s3fifo.New(o.DiskBytes, func(name thaw.ChunkName, size int64) {
		d.doomed = append(d.doomed, chunkFile{name, size})
		d.evicted.Add(1)
	})
	if err := d.claim(); err != nil {
		return nil, err
	}
	if err := d.load(); err != nil {
		_ = d.lock.Close()
		return nil, thaw.Wrap("l1: open "+d.dir, err)
	}
	d.writer.Go(d.write)
	signal(d.wake)
	return d, nil
}

// claim makes the folders and takes the lock, which the kernel releases when
// the process ends, however it ends.
func (d *Disk) claim() error {
	op := "l1: open " + d.dir
	if err := os.RemoveAll(d.tmpDir()); err != nil {
		return thaw.Wrap(op, err)
	}
	if err := os.MkdirAll(d.tmpDir(), 0o700); err != nil {
		return thaw.Wrap(op, err)
	}
	lock, err := os.OpenFile(filepath.Join(d.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return thaw.Errorf(op, thaw.Unavailable, "another process has it open: %w", err)
	}
	d.lock = lock
	return nil
}

func (d *Disk) tmpDir() string { return filepath.Join(d.dir, "tmp") }

// Get returns the chunk if it is on disk, or waits to be written, and is whole.
func (d *Disk) Get(_ context.Context, name thaw.ChunkName) (thaw.SealedChunk, bool) {
	d.mu.Lock()
	if sealed, ok := d.waiting[name]; ok {
		d.mu.Unlock()
		return sealed, true
	}
	size, ok := d.files.Get(name)
	d.mu.Unlock()
	if !ok {
		return nil, false
	}
	f := chunkFile{name, size}
	sealed, err := d.read(f)
	if err != nil {
		d.reject(f, err)
		return nil, false
	}
	return sealed, true
}

func (d *Disk) read(f chunkFile) (thaw.SealedChunk, error) {
	file, err := os.Open(d.path(f))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sealed := make(thaw.SealedChunk, f.size)
	if _, err := io.ReadFull(file, sealed); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, thaw.Errorf("l1: read", thaw.Corrupt, "the file is too short")
		}
		return nil, err
	}
	if thaw.NameOf(sealed) != f.name {
		return nil, thaw.Errorf("l1: read", thaw.Corrupt, "the bytes do not have the file's name")
	}
	return sealed, nil
}

// reject drops a file that could not be read as what it should be.
func (d *Disk) reject(f chunkFile, err error) {
	d.mu.Lock()
	d.files.Remove(f.name)
	d.mu.Unlock()
	switch {
	case errors.Is(err, fs.ErrNotExist): // evicted since, or deleted by somebody: a miss
		return
	case thaw.KindOf(err) == thaw.Corrupt:
		d.corrupt.Add(1)
		d.log.Warn("dropped a corrupt chunk of L1; it is fetched again", "chunk", f.name, "err", err)
	default:
		d.readErrors.Add(1)
		d.log.Warn("dropped an unreadable chunk of L1; it is fetched again", "chunk", f.name, "err", err)
	}
	_ = os.Remove(d.path(f)) // if it stays, the next Open finds it and the next Get rejects it again
}

// Warm reports whether the chunk is there, and asks the kernel to have it in
// its page cache soon.
func (d *Disk) Warm(name thaw.ChunkName) bool {
	d.mu.Lock()
	_, ok := d.waiting[name]
	if ok {
		d.mu.Unlock()
		return true
	}
	size, ok := d.files.Get(name)
	d.mu.Unlock()
	if !ok {
		return false
	}
	file, err := os.Open(d.path(chunkFile{name, size}))
	if err != nil {
		return false // a Get will find out why
	}
	defer file.Close()
	_ = unix.Fadvise(int(file.Fd()), 0, size, unix.FADV_WILLNEED) // advice; nothing depends on it
	return true
}

// Put offers a verified chunk to be written soon.
func (d *Disk) Put(name thaw.ChunkName, sealed thaw.SealedChunk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.waiting[name]; ok || d.files.Has(name) {
		return
	}
	if d.bytes+int64(len(sealed)) > d.queueMax {
		d.shed.Add(1)
		return
	}
	d.queue = append(d.queue, name)
	d.waiting[name] = sealed
	d.bytes += int64(len(sealed))
	signal(d.wake)
	if d.bytes > d.queueMax/2 {
		signal(d.pressed)
	}
}

// signal puts a word into a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Drop deletes all chunks.
func (d *Disk) Drop() {
	d.mu.Lock()
	doomed := d.doomed
	for it := range d.files.Items() {
		doomed = append(doomed, chunkFile{it.Key, it.Value})
	}
	d.files.Clear()
	d.doomed, d.queue = nil, nil
	clear(d.waiting)
	d.bytes = 0
	d.epoch++
	d.changed = true
	d.mu.Unlock()
	d.remove(doomed)
}

func (d *Disk) remove(files []chunkFile) {
	for _, f := range files {
		if err := os.Remove(d.path(f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.writeErrors.Add(1)
			d.log.Warn("L1: can't delete a chunk", "chunk", f.name, "err", err)
		}
	}
}

// Close stops the writer, saves the eviction order and releases the folder.
func (d *Disk) Close() error {
	close(d.stop)
	d.writer.Wait()
	err := d.saveOrder()
	return errors.Join(err, d.lock.Close())
}

func (d *Disk) stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{
		DiskChunks: d.files.Len(), DiskBytes: d.files.Cost(), DiskMax: d.files.Capacity(), Waiting: d.bytes,
		Written: d.written.Load(), Evicted: d.evicted.Load(), Shed: d.shed.Load(), Corrupt: d.corrupt.Load(),
		ReadErrors: d.readErrors.Load(), WriteErrors: d.writeErrors.Load(), NoSpaceErrors: d.noSpace.Load(),
	}
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
