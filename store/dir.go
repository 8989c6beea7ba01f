// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// The parts of a store's directory.
const (
	formatFile   = "FORMAT"
	lockFile     = "lock"
	tempFolder   = "tmp"
	chunkFolder  = "chunks"
	objectFolder = "objects"

	formatText = "thaw store 1\n" // the version byte of this format
)

var (
	_ thaw.ChunkSource = (*Dir)(nil)
	_ thaw.ChunkSink   = (*Dir)(nil)
	_ thaw.ChunkLister = (*Dir)(nil)
	_ thaw.Objects     = (*Dir)(nil)
)

// Dir is an origin in a directory, as the one process that may put chunks into
// it sees it. It is safe for concurrent use by any number of ingests: each
// Sync covers what anyone has put before it.
type Dir struct {
	*Shared
	owner *os.File // locked while this process owns the directory

	syncing chan struct{} // full while a Sync publishes; a lock that heeds a context

	mu      sync.Mutex
	pending map[thaw.ChunkName]*pendingChunk // put, but not yet durable and visible
}

// OpenDir opens the origin in directory path, making it if there is none, and
// removes what dead processes left unfinished in it. A second owner is refused
// with [thaw.Conflict] until the first has closed it or died; see
// [OpenShared]. Close it when done.
func OpenDir(path string) (*Dir, error) {
	op := "store: open " + path
	if err := initialize(path); err != nil {
		return nil, diskError(op, err)
	}
	if err := checkFormat(path); err != nil {
		return nil, err
	}
	owner, err := lockPath(filepath.Join(path, lockFile), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, thaw.Errorf(op, thaw.Conflict, "another process owns it")
	}
	if err != nil {
		return nil, diskError(op, err)
	}
	shared, err := openShared(path)
	if err != nil {
		return nil, diskError(op, errors.Join(err, owner.Close()))
	}
	// What a dead owner published last may not have reached the disk yet.
	if err := shared.disk.syncAll(); err != nil {
		return nil, diskError(op, errors.Join(err, shared.Close(), owner.Close()))
	}
	return &Dir{
		Shared:  shared,
		owner:   owner,
		syncing: make(chan struct{}, 1),
		pending: make(map[thaw.ChunkName]*pendingChunk),
	}, nil
}

// Close gives up the directory. Chunks put since the last Sync are dropped. No
// other method may be running or follow.
func (d *Dir) Close() error {
	return errors.Join(d.Shared.Close(), diskError("store: close", d.owner.Close()))
}

// initialize makes the folders of a new store. The format file is written last
// and everything here may be repeated, so a crash on the way does no harm.
func initialize(path string) error {
	if _, err := os.Stat(filepath.Join(path, formatFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dirs := []string{path, filepath.Join(path, tempFolder), filepath.Join(path, objectFolder), filepath.Join(path, chunkFolder)}
	const digits = "0123456789abcdef"
	for _, high := range digits {
		for _, low := range digits {
			dirs = append(dirs, filepath.Join(path, chunkFolder, string(high)+string(low)))
		}
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, file := range []struct{ name, text string }{{lockFile, ""}, {formatFile + ".new", formatText}} {
		if err := os.WriteFile(filepath.Join(path, file.name), []byte(file.text), 0o600); err != nil {
			return err
		}
	}
	root, err := os.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	disk := osDisk{root}
	if err := disk.syncAll(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(path, formatFile+".new"), filepath.Join(path, formatFile)); err != nil {
		return err
	}
	return errors.Join(disk.syncDir(path), disk.syncDir(filepath.Dir(filepath.Clean(path))))
}

func checkFormat(path string) error {
	op := "store: open " + path
	text, err := os.ReadFile(filepath.Join(path, formatFile))
	if err != nil {
		return readError(op, err)
	}
	if string(text) != formatText {
		return thaw.Errorf(op, thaw.Invalid, "its format is %q, this program knows %q", text, formatText)
	}
	return nil
}

// Get implements [thaw.ChunkSource]. A corrupt chunk is left where it is.
func (d *Dir) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	sealed, err := d.Shared.Get(ctx, name)
	if err == nil && d.hides(name) {
		return nil, notFound("store: get " + name.String())
	}
	return sealed, err
}

// Has implements [thaw.ChunkSink].
func (d *Dir) Has(ctx context.Context, name thaw.ChunkName) (bool, error) {
	op := "store: has " + name.String()
	if err := ctx.Err(); err != nil {
		return false, thaw.Wrap(op, err)
	}
	there, err := d.published(name)
	return there && !d.hides(name), diskError(op, err)
}

// published reports whether there is a file in the chunk's place.
func (d *Dir) published(name thaw.ChunkName) (bool, error) {
	_, err := os.Lstat(d.chunkPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Chunks implements [thaw.ChunkLister]; see [Shared.Chunks].
func (d *Dir) Chunks(ctx context.Context) iter.Seq2[thaw.ChunkInfo, error] {
	return func(yield func(thaw.ChunkInfo, error) bool) {
		for info, err := range d.Shared.Chunks(ctx) {
			if err == nil && d.hides(info.Name) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// hides reports whether a file seen in the chunk's place may not be durable
// yet. It must be asked after looking at the file: by then whoever renamed it
// has either made it durable or still hides it.
func (d *Dir) hides(name thaw.ChunkName) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pending[name]
	return p != nil && p.hidesLocked()
}
