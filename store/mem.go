// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"thaw.dev/thaw"
)

var (
	_ thaw.ChunkSource = (*Mem)(nil)
	_ thaw.ChunkSink   = (*Mem)(nil)
	_ thaw.ChunkLister = (*Mem)(nil)
	_ thaw.Objects     = (*Mem)(nil)
)

// Mem is an origin in memory that behaves as [Dir] does, durability apart. It
// is safe for concurrent use.
type Mem struct {
	mu      sync.Mutex
	pending map[thaw.ChunkName]thaw.SealedChunk
	chunks  map[thaw.ChunkName]thaw.SealedChunk
	objects map[string][]byte
}

// NewMem returns an empty origin in memory.
func NewMem() *Mem {
	return &Mem{
		pending: make(map[thaw.ChunkName]thaw.SealedChunk),
		chunks:  make(map[thaw.ChunkName]thaw.SealedChunk),
		objects: make(map[string][]byte),
	}
}

// Damage changes what is stored under a published name, for tests of what
// readers do about corrupt chunks. It takes ownership of sealed.
func (m *Mem) Damage(name thaw.ChunkName, sealed thaw.SealedChunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chunks[name] = sealed
}

// Get implements [thaw.ChunkSource].
func (m *Mem) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	op := "store: get " + name.String()
	if err := ctx.Err(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	m.mu.Lock()
	sealed, ok := m.chunks[name]
	m.mu.Unlock()
	if !ok {
		return nil, notFound(op)
	}
	if thaw.NameOf(sealed) != name {
		return nil, thaw.Errorf(op, thaw.Corrupt, "the stored bytes have another name")
	}
	return sealed, nil
}

// Has implements [thaw.ChunkSink].
func (m *Mem) Has(ctx context.Context, name thaw.ChunkName) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, thaw.Wrap("store: has "+name.String(), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.chunks[name]
	return ok, nil
}

// Put implements [thaw.ChunkSink].
func (m *Mem) Put(ctx context.Context, chunk thaw.NamedChunk) error {
	name := chunk.Name()
	if err := ctx.Err(); err != nil {
		return thaw.Wrap("store: put "+name.String(), err)
	}
	if err := CheckChunk(chunk); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chunks[name] == nil && m.pending[name] == nil {
		m.pending[name] = append(thaw.SealedChunk{}, chunk.Sealed()...)
	}
	return nil
}

// Sync implements [thaw.ChunkSink].
func (m *Mem) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return thaw.Wrap("store: sync", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.chunks, m.pending)
	clear(m.pending)
	return nil
}

// Chunks implements [thaw.ChunkLister]: the chunks at the time of the call.
func (m *Mem) Chunks(ctx context.Context) iter.Seq2[thaw.ChunkInfo, error] {
	return func(yield func(thaw.ChunkInfo, error) bool) {
		m.mu.Lock()
		all := make([]thaw.ChunkInfo, 0, len(m.chunks))
		for name, sealed := range m.chunks {
			all = append(all, thaw.ChunkInfo{Name: name, Bytes: int64(len(sealed))})
		}
		m.mu.Unlock()
		for _, info := range all {
			if err := ctx.Err(); err != nil {
				yield(thaw.ChunkInfo{}, thaw.Wrap("store: list chunks", err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// PutObject implements [thaw.Objects].
func (m *Mem) PutObject(ctx context.Context, key string, data []byte) error {
	op := "store: put " + key
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return thaw.Wrap(op, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.objects {
		if strings.HasPrefix(other, key+"/") || strings.HasPrefix(key, other+"/") {
			return conflict(op)
		}
	}
	m.objects[key] = bytes.Clone(data)
	return nil
}

// ReadObject implements [thaw.Objects].
func (m *Mem) ReadObject(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	op := "store: read " + key
	if err := CheckRange(key, off, n); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	m.mu.Lock()
	data, ok := m.objects[key]
	m.mu.Unlock()
	if !ok {
		return nil, notFound(op)
	}
	data = data[min(off, int64(len(data))):]
	return bytes.Clone(data[:min(n, len(data))]), nil
}

// DeleteObject implements [thaw.Objects].
func (m *Mem) DeleteObject(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return thaw.Wrap("store: delete "+key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

// ListObjects implements [thaw.Objects]: the keys at the time of the call.
func (m *Mem) ListObjects(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		m.mu.Lock()
		keys := slices.Collect(maps.Keys(m.objects))
		m.mu.Unlock()
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield("", thaw.Wrap("store: list objects", err))
				return
			}
			if strings.HasPrefix(key, prefix) && !yield(key, nil) {
				return
			}
		}
	}
}
