package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// disk is what a store asks of the file system when it writes, so that tests
// can make each step fail. Implementations are safe for concurrent use.
type disk interface {
	// write makes a new file of that content; on failure no file is left.
	write(path string, data []byte) error
	// syncFile makes a written file's content durable.
	syncFile(path string) error
	// rename moves a file over whatever has the new name.
	rename(from, to string) error
	// syncDir makes the names in a directory durable.
	syncDir(path string) error
	// syncAll makes everything written to the file system durable.
	syncAll() error
}

// osDisk is the file system that holds the open directory root.
type osDisk struct{ root *os.File }

func (d osDisk) write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // the first failure is the one to tell
	}
	return err
}

func (d osDisk) syncFile(path string) error { return syncPath(path) }

func (d osDisk) rename(from, to string) error { return os.Rename(from, to) }

func (d osDisk) syncDir(path string) error { return syncPath(path) }

func (d osDisk) syncAll() error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.root.Fd())))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
