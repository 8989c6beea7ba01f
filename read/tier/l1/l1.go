// SPDX-License-Identifier: Apache-2.0

// Package l1 is the worker's own cache of sealed chunks: memory, and a folder of
// files that survives restarts. Both are bounded by bytes and resist scans (see
// package s3fifo). It knows names, sizes and eviction; it sees sealed bytes
// only.
//
// The disk is not trusted and not waited for. Every read from it is verified by
// name, and what fails is dropped, counted and fetched again; so nothing needs
// an fsync, and a crash costs at most the chunks it tore. Writes happen behind,
// from a bounded queue; what finds no room there, or none on the disk, is shed:
// a cache that can't keep up must not slow down the reads it is there for.
package l1

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/s3fifo"
)

// Names of the two tiers in the statistics.
const (
	MemoryName = "l1-memory"
	DiskName   = "l1-disk"
)

// DefaultMemoryBytes is small: the page cache holds the files of the disk's part, too.
const DefaultMemoryBytes = 64 << 20

// Options make an [L1].
type Options struct {
	Dir         string       // folder of the disk's part, made if absent; required
	DiskBytes   int64        // bound of the disk's part; zero means 10 GiB
	MemoryBytes int64        // bound of the memory's part; zero means DefaultMemoryBytes
	QueueBytes  int64        // bound of what waits to be written; zero means 64 MiB
	Log         *slog.Logger // nil means slog.Default

	// WriteAfter is how long chunks wait before they are written: writing the
	// 8 MB that a start reads beside it took 25 ms of processor time.
	WriteAfter time.Duration
}

func (o *Options) setDefaults() {
	if o.DiskBytes == 0 {
		o.DiskBytes = 10 << 30
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = DefaultMemoryBytes
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// L1 is the pair of caches. Use [Open]. It is safe for concurrent use.
type L1 struct {
	Memory *Memory
	Disk   *Disk
}

// Open opens the cache with what an earlier process left in the folder. It
// fails with [thaw.Unavailable] where another process has it open. The caller
// closes it.
func Open(o Options) (*L1, error) {
	o.setDefaults()
	disk, err := openDisk(o)
	if err != nil {
		return nil, err
	}
	return &L1{Memory: NewMemory(o.MemoryBytes), Disk: disk}, nil
}

// Drop empties both caches, what waits to be written included. Reads under way
// are not disturbed.
func (l *L1) Drop() {
	l.Memory.Drop()
	l.Disk.Drop()
}

// Close ends the writing behind, drops what was not written yet, and leaves the
// files for the next [Open].
func (l *L1) Close() error {
	l.Memory.Drop()
	return l.Disk.Close()
}

// Stats is the state of the cache beside the counters of the tiers.
type Stats struct {
	MemoryChunks  int   `json:"memory_chunks"`
	MemoryBytes   int64 `json:"memory_bytes"`
	MemoryMax     int64 `json:"memory_max_bytes"`
	DiskChunks    int   `json:"disk_chunks"`
	DiskBytes     int64 `json:"disk_bytes"`     // in whole blocks, as files take room
	DiskMax       int64 `json:"disk_max_bytes"` // below the configured bound while the disk is short of room
	Waiting       int64 `json:"waiting_bytes"`  // to be written
	Written       int64 `json:"written"`        // chunks written
	Evicted       int64 `json:"evicted"`        // files deleted for room
	Shed          int64 `json:"shed"`           // chunks not written since the queue was full
	Corrupt       int64 `json:"corrupt"`        // files dropped since their bytes did not match
	ReadErrors    int64 `json:"read_errors"`
	WriteErrors   int64 `json:"write_errors"`    // for lack of room included
	NoSpaceErrors int64 `json:"no_space_errors"` // the part of them for lack of room
}

// Stats returns the state now.
func (l *L1) Stats() Stats {
	st := l.Disk.stats()
	st.MemoryChunks, st.MemoryBytes, st.MemoryMax = l.Memory.size()
	return st
}

// Memory holds sealed chunks in memory. Use [NewMemory]. It implements
// tier.Cache and is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	chunks *s3fifo.Cache[thaw.ChunkName, thaw.SealedChunk]
}

// NewMemory returns an empty cache of at most that many sealed bytes.
func NewMemory(bytes int64) *Memory {
	return &Memory{chunks: s3fifo.New[thaw.ChunkName, thaw.SealedChunk](bytes, nil)}
}

// Get returns the chunk if it is held.
func (m *Memory) Get(_ context.Context, name thaw.ChunkName) (thaw.SealedChunk, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.chunks.Get(name)
}

// Put holds a verified chunk, without copying it.
func (m *Memory) Put(name thaw.ChunkName, sealed thaw.SealedChunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chunks.Add(name, sealed, int64(len(sealed)))
}

// Warm reports whether the chunk is held.
func (m *Memory) Warm(name thaw.ChunkName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.chunks.Has(name)
}

// Drop forgets all chunks.
func (m *Memory) Drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chunks.Clear()
}

func (m *Memory) size() (chunks int, bytes, bound int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.chunks.Len(), m.chunks.Cost(), m.chunks.Capacity()
}
