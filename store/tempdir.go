// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// tempDir is where one process keeps what it has not published yet:
// tmp/<random>, locked for as long as the process lives, so that the next to
// open the store can tell leftovers from work in progress.
type tempDir struct {
	path string
	lock *os.File
	next atomic.Uint64
}

// openTempDir removes what dead processes left in parent and makes a directory
// for this one. The lock on parent keeps a second process from taking the new
// directory for a leftover before it is locked.
func openTempDir(parent string) (*tempDir, error) {
	guard, err := lockPath(parent, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	if err := removeLeftovers(parent); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(parent, "")
	if err != nil {
		return nil, err
	}
	lock, err := lockPath(path, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &tempDir{path: path, lock: lock}, nil
}

func removeLeftovers(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(parent, entry.Name())
		lock, err := lockPath(path, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // its process lives
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(path), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// name returns a path that was not returned before.
func (t *tempDir) name() string {
	return filepath.Join(t.path, strconv.FormatUint(t.next.Add(1), 10))
}

func (t *tempDir) close() error {
	return errors.Join(os.RemoveAll(t.path), t.lock.Close())
}

// lockPath opens a file or directory and locks it against other openings of
// it; closing the file gives the lock up, and so does the end of the process.
func lockPath(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(&os.PathError{Op: "lock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}
