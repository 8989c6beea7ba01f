// SPDX-License-Identifier: Apache-2.0

// Package spool takes in the bodies of requests before anybody works for them:
// the memory that a body takes while it comes is small whatever its size, and
// who waits for a body holds nothing that others need.
package spool

import (
	"bytes"
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
	// memoryBytes is what of a body stays in memory. The bodies of nearly all
	// requests but uploads are smaller.
	memoryBytes = 32 << 10

	// stepBytes is how much of the pool a body takes at once, as it comes.
	stepBytes = 1 << 20

	// writers bounds the writes to files at once: each takes a thread while the
	// disk is slow, and a process has only so many.
	writers = 64

	copyBytes = 16 << 10 // also what a slow client takes
)

// Store keeps bodies in nameless files. It is safe for concurrent use.
type Store struct {
	dir  string
	pool *fair.Pool // of bytes in files
	disk *fair.Pool // of writes to files
}

// New returns a store that puts its files in the folder dir, which it makes, and
// at most size bytes of all bodies together. It does no I/O.
func New(dir string, size int64) *Store {
	return &Store{dir: dir, pool: fair.New(fair.Options{Name: "bodies", Size: size, KeepFree: true}),
		disk: fair.New(fair.Options{Name: "body-writes", Size: writers, KeepFree: true})}
}

// Pools returns what owners share here.
func (s *Store) Pools() []*fair.Pool { return []*fair.Pool{s.pool, s.disk} }

// Take reads a body to its end, for an owner: a tenant, or where a body comes
// from whose signature was not verified yet. What is read goes into sum as well,
// if there is one. The caller closes the result. Errors: [thaw.TooLarge] past
// limit, [thaw.Throttled] where others have no room to spare, and the reader's.
func (s *Store) Take(owner string, r io.Reader, limit int64, sum hash.Hash) (*Body, error) {
	b := &Body{}
	if sum != nil {
		r = io.TeeReader(r, sum)
	}
	var head bytes.Buffer
	n, err := head.ReadFrom(io.LimitReader(r, min(memoryBytes, limit)+1))
	if err == nil && n > min(memoryBytes, limit) {
		b.head, b.size = head.Bytes(), n
		err = s.spill(b, owner, r, limit)
	} else {
		b.head, b.size = head.Bytes(), n
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// spill puts a body in a file, from its beginning.
func (s *Store) spill(b *Body, owner string, r io.Reader, limit int64) (err error) {
	if b.size > limit {
		return tooLarge(limit)
	}
	if err = s.open(b); err != nil {
		return thaw.Wrap("take a body in", err)
	}
	head := b.head
	b.head, b.size = nil, 0
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
		release, ok := s.pool.TryAcquire(owner, stepBytes)
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
	head     []byte // all that is left to read, where there is no file
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
		return b.head, nil
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
	for _, release := range b.releases {
		release()
	}
	b.head, b.file, b.releases = nil, nil, nil
	return err
}
