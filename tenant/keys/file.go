// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

const (
	// maxFileBytes bounds what is read of a file: thousands of rotations.
	maxFileBytes = 1 << 20

	saltFile   = "salt-master"
	saltPrefix = "thaw salt master 1\n" // the version byte of the format
	saltBytes  = 32

	lockFile = "lock"
	newFile  = "new" // what is being written; one at a time, under the lock
)

type privateFile struct {
	data []byte
	info fs.FileInfo
}

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) (privateFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return privateFile{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return privateFile{}, err
	}
	if err := checkPrivate(path, info); err != nil {
		return privateFile{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = thaw.Errorf("keys: read "+path, thaw.Corrupt, "it is longer than a file of keys can be")
	}
	return privateFile{data, info}, err
}

func checkPrivate(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return thaw.Errorf("keys: read "+path, thaw.Invalid, "others than its owner may use it (mode %04o): chmod go= %s", mode, path)
	}
	return nil
}

// writePrivate replaces path atomically and durably. The caller holds the lock
// of the directory.
func writePrivate(path string, data []byte) error {
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, newFile)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // a leftover of one who died here
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // the first failure is the one to tell
		return err
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// locked calls change while no other process or goroutine is within locked for
// the same directory.
func locked(dir string, change func() error) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks
	for {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: lock.Name(), Err: err}
	}
	return change()
}

// openSalt reads the salt secret, making it if there is none.
func openSalt(dir string) ([]byte, error) {
	path := filepath.Join(dir, saltFile)
	err := locked(dir, func() error {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		secret := make([]byte, saltBytes)
		_, _ = rand.Read(secret) // never fails: it ends the program instead
		return writePrivate(path, []byte(saltPrefix+hex.EncodeToString(secret)+"\n"))
	})
	if err != nil {
		return nil, err
	}
	file, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	digits, ok := strings.CutPrefix(string(file.data), saltPrefix)
	secret, err := hex.DecodeString(strings.TrimSuffix(digits, "\n"))
	if !ok || err != nil || len(secret) != saltBytes {
		return nil, thaw.Errorf("keys: read "+path, thaw.Corrupt, "it is not a salt secret of this format")
	}
	return secret, nil
}
