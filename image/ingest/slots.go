// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"io"
	"os"

	"thaw.dev/thaw"
)

// slots are places in which groups of small files are put together, the first
// of them in memory, the others in a temporary file. One goroutine uses them.
type slots struct {
	dir    string
	memory int // how many are in memory; slot numbers from there on are in the file
	all    int
	pages  [][]byte // of the slots in memory that were used so far
	used   int      // numbers given out so far
	free   []int    // numbers given back
	file   *os.File
	buf    []byte
}

// slot is a place for the pages of one group. Every page of it is filled
// before any is read.
type slot struct {
	number int
	pages  []byte // nil if it is in the file
}

func newSlots(o Options) *slots {
	memory := max(int(o.HoldBytes/thaw.MaxChunkBytes), 1)
	return &slots{dir: o.TempDir, memory: memory, all: memory + int(o.TempBytes/thaw.MaxChunkBytes)}
}

// take returns a slot, or false if none is free.
func (s *slots) take() (slot, bool) {
	number := s.used
	switch n := len(s.free); {
	case n > 0:
		number, s.free = s.free[n-1], s.free[:n-1]
	case s.used < s.all:
		s.used++
	default:
		return slot{}, false
	}
	if number >= s.memory {
		return slot{number: number}, true
	}
	if number == len(s.pages) {
		s.pages = append(s.pages, make([]byte, thaw.MaxChunkBytes))
	}
	return slot{number: number, pages: s.pages[number]}, true
}

// giveBack frees a slot.
func (s *slots) giveBack(p slot) { s.free = append(s.free, p.number) }

func (s *slots) offset(p slot, block uint32) int64 {
	return int64(p.number-s.memory)*thaw.MaxChunkBytes + int64(block)*thaw.BlockBytes
}

// fill reads a file of size bytes to its place in a slot and fills its last
// block with zeros.
func (s *slots) fill(p slot, block uint32, size int64, data io.Reader) error {
	room := int64(blocksOf(size)) * thaw.BlockBytes
	if p.pages != nil {
		return readPadded(data, p.pages[int64(block)*thaw.BlockBytes:][:room], size)
	}
	if s.file == nil {
		file, err := tempFile(s.dir)
		if err != nil {
			return err
		}
		s.file, s.buf = file, make([]byte, thaw.MaxChunkBytes)
	}
	if err := readPadded(data, s.buf[:room], size); err != nil {
		return err
	}
	_, err := s.file.WriteAt(s.buf[:room], s.offset(p, block))
	return diskError(err)
}

func readPadded(data io.Reader, p []byte, size int64) error {
	if _, err := io.ReadFull(data, p[:size]); err != nil {
		return err
	}
	clear(p[size:])
	return nil
}

// read copies the pages of a slot.
func (s *slots) read(p slot, pages []byte) error {
	if p.pages != nil {
		copy(pages, p.pages)
		return nil
	}
	_, err := s.file.ReadAt(pages, s.offset(p, 0))
	return diskError(err)
}

func (s *slots) close() {
	if s.file != nil {
		_ = s.file.Close() // nothing of it is wanted
	}
}
