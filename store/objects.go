// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"thaw.dev/thaw"
)

// publishTries bounds how often PutObject makes its folder anew because
// someone deleted the last object in it at that moment.
const publishTries = 100

func (s *Shared) objectPath(key string) string {
	return filepath.Join(s.path, objectFolder, filepath.FromSlash(key))
}

// PutObject implements [thaw.Objects]. A key that is a folder of other keys,
// or has a key as a folder, is a [thaw.Conflict].
func (s *Shared) PutObject(ctx context.Context, key string, data []byte) error {
	op := "store: put " + key
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return thaw.Wrap(op, err)
	}
	temp := s.temp.name()
	err := s.disk.write(temp, data)
	if err != nil {
		return putError(op, err)
	}
	if err = s.disk.syncFile(temp); err == nil {
		err = s.publish(temp, key)
	}
	if err != nil {
		_ = os.Remove(temp) // the first failure is the one to tell
	}
	return putError(op, err)
}

// publish renames a durable file to its key and makes the name durable.
func (s *Shared) publish(temp, key string) error {
	path := s.objectPath(key)
	for try := 0; ; try++ {
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = s.disk.rename(temp, path)
		}
		if err == nil {
			break
		}
		if try == publishTries || !s.clearWay(path, err) {
			return err
		}
	}
	// Every folder on the way, since any of them may be new.
	for dir := filepath.Dir(path); dir != s.path; dir = filepath.Dir(dir) {
		if err := s.disk.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// clearWay reports whether publishing may be tried again: the folder went away
// in between, or the path was an empty folder, left by a deletion that was cut
// short.
func (s *Shared) clearWay(path string, err error) bool {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true
	case errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrExist):
		return os.Remove(path) == nil
	}
	return false
}

func putError(op string, err error) error {
	for _, errno := range []syscall.Errno{syscall.EISDIR, syscall.ENOTDIR, syscall.EEXIST, syscall.ENOTEMPTY} {
		if errors.Is(err, errno) {
			return conflict(op)
		}
	}
	return diskError(op, err)
}

func conflict(op string) error {
	return thaw.Errorf(op, thaw.Conflict, "one key can't be a folder of another")
}

// ReadObject implements [thaw.Objects].
func (s *Shared) ReadObject(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	op := "store: read " + key
	if err := CheckRange(key, off, n); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	f, err := os.Open(s.objectPath(key))
	if err != nil {
		return nil, s.readError(op, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, diskError(op, err)
	}
	if info.IsDir() {
		return nil, notFound(op)
	}
	b := make([]byte, max(0, min(int64(n), info.Size()-off)))
	got, err := f.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, diskError(op, err)
	}
	return b[:got], nil
}

// DeleteObject implements [thaw.Objects].
func (s *Shared) DeleteObject(ctx context.Context, key string) error {
	op := "store: delete " + key
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return thaw.Wrap(op, err)
	}
	path := s.objectPath(key)
	info, err := os.Lstat(path)
	if err == nil && info.IsDir() {
		return nil // a folder of keys is not a key
	}
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err == nil {
		err = s.disk.syncDir(filepath.Dir(path))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // another deletion has removed the folder as well
	}
	s.removeEmptyFolders(filepath.Dir(path))
	return diskError(op, err)
}

// removeEmptyFolders removes dir and what is above it while they are empty: a
// folder that stays would do no harm, so failures are not told.
func (s *Shared) removeEmptyFolders(dir string) {
	top := filepath.Join(s.path, objectFolder)
	for dir != top && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
}

// ListObjects implements [thaw.Objects]. An error is yielded and the listing
// goes on if the caller does.
func (s *Shared) ListObjects(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		const op = "store: list objects"
		top := filepath.Join(s.path, objectFolder)
		_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if cause := ctx.Err(); cause != nil {
				yield("", thaw.Wrap(op, cause))
				return fs.SkipAll
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // deleted since its folder was read
			}
			if err != nil {
				return orStop(yield("", diskError(op, err)))
			}
			key := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(path, top), string(filepath.Separator)))
			switch {
			case entry.IsDir() && !strings.HasPrefix(key+"/", prefix) && !strings.HasPrefix(prefix, key+"/") && key != "":
				return fs.SkipDir
			case entry.IsDir() || !strings.HasPrefix(key, prefix):
				return nil
			}
			return orStop(yield(key, nil))
		})
	}
}

func orStop(goOn bool) error {
	if goOn {
		return nil
	}
	return fs.SkipAll
}
