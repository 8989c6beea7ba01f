// SPDX-License-Identifier: Apache-2.0

// Package spool takes in the bodies of requests before anybody works for them:
// the memory that a body takes while it comes is small whatever its size, and
// who waits for a body holds nothing that others need.
package spool

import (
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

const (
	// ownBytes is what any body has in memory, and sharedBytes what larger ones
	// share of it. One that finds no room goes to a file, which costs a little
	// time and keeps nobody waiting.
	ownBytes    = 32 << 10
	sharedBytes = 32 << 20

	// stepBytes is how much of the pool a body takes at once, as it comes.
	stepBytes = 1 << 20

	// writers bounds the writes to files at once: each takes a thread while the
	// disk is slow, and a process has only so many.
	writers = 64

	copyBytes = 16 << 10 // also what a slow client takes
)

// Store keeps bodies in memory, or in nameless files. It is safe for concurrent
// use.
type Store struct {
	dir    string
	memory *fair.Pool // of bytes in memory
	files  *fair.Pool // of bytes in files
	disk   *fair.Pool // of writes to files
}

// New returns a store that puts its files in the folder dir, which it makes, and
// at most size bytes of all bodies together in them. It does no I/O.
func New(dir string, size int64) *Store {
	return &Store{dir: dir,
		memory: fair.New(fair.Options{Name: "body-memory", Size: sharedBytes, KeepFree: true}),
		files:  fair.New(fair.Options{Name: "bodies", Size: size, KeepFree: true}),
		disk:   fair.New(fair.Options{Name: "body-writes", Size: writers, KeepFree: true})}
}

// Pools returns what owners share here.
func (s *Store) Pools() []*fair.Pool { return []*fair.Pool{s.memory, s.files, s.disk} }

// Take reads a body to its end, for an owner: a tenant, or where a body comes
// from whose signature was not verified yet. What is read goes into sum as well,
// if there is one. The caller closes the result. Errors: [thaw.TooLarge] past
// limit, [thaw.Throttled] where others have no room to spare, and the reader's.
func (s *Store) Take(owner string, r io.Reader, limit int64, sum hash.Hash) (*Body, error) {
	if sum != nil {
		r = io.TeeReader(r, sum)
	}
	b := &Body{}
	err := s.keep(b, owner, r, limit)
	if errors.Is(err, errNoRoom) {
		err = s.spill(b, owner, r, limit)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

var errNoRoom = errors.New("no room in memory")

// keep reads a body into memory, as far as there is room.
func (s *Store) keep(b *Body, owner string, r io.Reader, limit int64) error {
	for {
		if len(b.head) == cap(b.head) && !s.grow(b, owner) {
			return errNoRoom
		}
		n, err := r.Read(b.head[len(b.head):cap(b.head)])
		b.head = b.head[:len(b.head)+n]
		b.size += int64(n)
		switch {
		case b.size > limit:
			return tooLarge(limit)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// grow doubles what a body has in memory, and reports whether there was room.
func (s *Store) grow(b *Body, owner string) bool {
	size := max(2*cap(b.head), 1<<10)
	if size > ownBytes {
		release, ok := s.memory.TryAcquire(owner, int64(size))
		if !ok {
			return false
		}
		b.release()
		b.releases = append(b.releases, release)
	}
	b.head = append(make([]byte, 0, size), b.head...)
	return true
}

// spill puts a body in a file, from its beginning.
func (s *Store) spill(b *Body, owner string, r io.Reader, limit int64) (err error) {
	if err = s.open(b); err != nil {
		return thaw.Wrap("take a body in", err)
	}
	head := b.head
	b.head, b.size = nil, 0
	b.release()
	if err = s.write(b, owner, head); err != nil {
		return err
	}
	buffer := make([]byte, copyBytes)
	for {
		n, readErr := r.Read(buffer)
		if b.size+int64(n) > limit {
			return tooLarge(limit)
		}
		if err := s.write(b, owner, buffer[:n]); err != nil {
			return err
		}
		if errors.Is(readErr, io.EOF) {
			_, err = b.file.Seek(0, io.SeekStart)
			return thaw.Wrap("take a body in", err)
		}
		if readErr != nil {
			return readErr
		}
	}
}

// open makes the file, and the folder where somebody has removed it.
func (s *Store) open(b *Body) (err error) {
	if b.file, err = os.CreateTemp(s.dir, "body-"); errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
		b.file, err = os.CreateTemp(s.dir, "body-")
	}
	if err != nil {
		return err
	}
	return os.Remove(b.file.Name())
}

func (s *Store) write(b *Body, owner string, p []byte) error {
	for b.size+int64(len(p)) > int64(len(b.releases))*stepBytes {
		release, ok := s.files.TryAcquire(owner, stepBytes)
		if !ok {
			return thaw.Errorf("take a body in", thaw.Throttled, "too many bodies come at once")
		}
		b.releases = append(b.releases, release)
	}
	done, err := s.disk.Acquire(context.Background(), owner, 1) // a write always ends
	if err != nil {
		return err
	}
	defer done()
	n, err := b.file.Write(p)
	b.size += int64(n)
	return thaw.Wrap("take a body in", err)
}

func tooLarge(limit int64) error {
	return thaw.Errorf("read body", thaw.TooLarge, "the body is larger than %d bytes", limit)
}

// Body is a body that has come. It belongs to one goroutine.
type Body struct {
	head     []byte // what is left to read, where there is no file
	file     *os.File
	size     int64
	releases []func()
}

// Read reads on from where the last one ended.
func (b *Body) Read(p []byte) (int, error) {
	if b.file != nil {
		return b.file.Read(p)
	}
	if len(b.head) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.head)
	b.head = b.head[n:]
	return n, nil
}

// Bytes closes the body, of which nothing was read yet, and returns all of it.
func (b *Body) Bytes() ([]byte, error) {
	if b.file == nil {
		data := b.head
		return data, b.Close()
	}
	data := make([]byte, b.size)
	_, err := io.ReadFull(b.file, data)
	if err = errors.Join(err, b.Close()); err != nil {
		return nil, thaw.Wrap("read a body", err)
	}
	return data, nil
}

// Close gives back what the body takes. More than once does nothing.
func (b *Body) Close() error {
	var err error
	if b.file != nil {
		err = b.file.Close()
	}
	b.release()
	b.head, b.file = nil, nil
	return err
}

func (b *Body) release() {
	for _, release := range b.releases {
		release()
	}
	b.releases = nil
}
