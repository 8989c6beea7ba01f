// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// disk does the file operations that must survive a crash. All its paths are on
// one file system, so that renames and hard links work between them.
type disk struct {
	tmp string // for what is being written or removed
}

// tempPath returns an unused path in tmp.
func (d disk) tempPath(what string) string {
	return filepath.Join(d.tmp, what+"."+rand.Text())
}

// writeFile puts data at path, atomically and durably replacing what was there.
func (d disk) writeFile(path string, data ...[]byte) error {
	temp := d.tempPath("file")
	if err := writeSynced(temp, data); err != nil {
		return errors.Join(err, removeQuietly(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, removeQuietly(temp))
	}
	return syncDir(filepath.Dir(path))
}

// discard takes path away for good. What it held is freed later, by
// [disk.emptyTrash], so that the time of this call says nothing about it.
func (d disk) discard(path string) error {
	return os.Rename(path, d.tempPath("trash"))
}

// emptyTrash frees what was discarded.
func (d disk) emptyTrash() error {
	entries, err := os.ReadDir(d.tmp)
	if isNotExist(err) {
		return nil
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "trash.") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.tmp, entry.Name())))
		}
	}
	return err
}

func writeSynced(path string, data [][]byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	for _, part := range data {
		if _, err = f.Write(part); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// removeSynced removes a file durably; a missing one is no error.
func removeSynced(path string) error {
	if err := os.Remove(path); err != nil {
		if isNotExist(err) {
			return nil
		}
		return err
	}
	return syncDir(filepath.Dir(path))
}

func removeQuietly(path string) error {
	if err := os.Remove(path); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeDir makes path and its missing parents, durably.
func makeDir(path string) error {
	if err := os.Mkdir(path, dirPerm); err == nil {
		return syncDir(filepath.Dir(path))
	} else if errors.Is(err, os.ErrExist) {
		return nil
	} else if !isNotExist(err) {
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return makeDir(path)
}

// lockFile takes the lock that keeps a second process out of the folder. The
// kernel drops it when the process dies. Closing the file releases it.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
