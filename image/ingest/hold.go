// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"os"

	"thaw.dev/thaw"
)

// holdSlab is the unit in which held bytes are allocated and written to disk.
const holdSlab = 1 << 20

// hold keeps the bytes of small files until their chunks can be made: first in
// memory, then in a temporary file without a name, which is gone when the
// process is. It is append-only, and bounded in both. One goroutine uses it.
type hold struct {
	dir       string
	maxMemory int64 // multiples of holdSlab
	maxFile   int64

	memory [][]byte // full slabs
	open   []byte   // the slab being filled
	size   int64    // of all bytes held
	file   *os.File // holds the slabs after those in memory
}

func newHold(o Options) *hold {
	slabs := func(n int64) int64 { return max(n/holdSlab, 1) * holdSlab }
	return &hold{dir: o.TempDir, maxMemory: slabs(o.HoldBytes), maxFile: slabs(o.TempBytes)}
}

// room reports whether n more bytes can be held.
func (h *hold) room(n int64) bool { return h.size+n <= h.maxMemory+h.maxFile }

// space returns up to n bytes of room at the end, at least one, for the caller
// to fill. Room must have been found for them.
func (h *hold) space(n int64) ([]byte, error) {
	if len(h.open) == cap(h.open) {
		if err := h.turn(); err != nil {
			return nil, err
		}
	}
	at := len(h.open)
	h.open = h.open[:min(int64(at)+n, int64(cap(h.open)))]
	h.size += int64(len(h.open) - at)
	return h.open[at:], nil
}

// turn puts the full slab where it stays and opens the next.
func (h *hold) turn() error {
	switch {
	case h.open == nil:
	case int64(len(h.memory))*holdSlab < h.maxMemory:
		h.memory = append(h.memory, h.open)
	default:
		if err := h.write(); err != nil {
			return err
		}
		h.open = h.open[:0]
		return nil
	}
	h.open = make([]byte, 0, holdSlab)
	return nil
}

func (h *hold) write() error {
	if h.file == nil {
		file, err := tempFile(h.dir)
		if err != nil {
			return err
		}
		h.file = file
	}
	if _, err := h.file.WriteAt(h.open, h.size-int64(len(h.open))-h.memoryBytes()); err != nil {
		return diskError(err)
	}
	return nil
}

func (h *hold) memoryBytes() int64 { return int64(len(h.memory)) * holdSlab }

// read fills p with the bytes held from offset off.
func (h *hold) read(p []byte, off int64) error {
	for len(p) > 0 {
		var n int
		switch slab := off / holdSlab; {
		case slab < int64(len(h.memory)):
			n = copy(p, h.memory[slab][off%holdSlab:])
		case off >= h.size-int64(len(h.open)):
			n = copy(p, h.open[off-(h.size-int64(len(h.open))):])
		default:
			n = int(min(int64(len(p)), h.size-int64(len(h.open))-off))
			if _, err := h.file.ReadAt(p[:n], off-h.memoryBytes()); err != nil {
				return diskError(err)
			}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// close frees everything.
func (h *hold) close() {
	h.memory, h.open = nil, nil
	if h.file != nil {
		_ = h.file.Close() // nothing of it is wanted
		h.file = nil
	}
}

// tempFile returns a file without a name: its disk is free again once it is
// closed, also by the death of the process.
func tempFile(dir string) (*os.File, error) {
	if dir != "" { // somebody may have cleaned up
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, diskError(err)
		}
	}
	f, err := os.CreateTemp(dir, "thaw-ingest-")
	if err != nil {
		return nil, diskError(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, diskError(err)
	}
	return f, nil
}

func diskError(err error) error {
	if err == nil {
		return nil
	}
	return thaw.Errorf("temporary file", thaw.KindOf(err), "%w", err)
}
