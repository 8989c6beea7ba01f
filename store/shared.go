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

	"thaw.dev/thaw"
)

var (
	_ thaw.ChunkSource = (*Shared)(nil)
	_ thaw.ChunkLister = (*Shared)(nil)
	_ thaw.Objects     = (*Shared)(nil)
)

// Shared is an origin in a directory as any number of processes of one machine
// may use it beside its owner: everything but putting chunks. It is safe for
// concurrent use.
type Shared struct {
	path string
	root *os.File
	temp *tempDir
	disk disk
}

// OpenShared opens the origin in directory path, which its owner must have
// made before ([thaw.NotFound] else). Close it when done.
func OpenShared(path string) (*Shared, error) {
	if err := checkFormat(path); err != nil {
		return nil, err
	}
	s, err := openShared(path)
	return s, diskError("store: open "+path, err)
}

func openShared(path string) (*Shared, error) {
	root, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	temp, err := openTempDir(filepath.Join(path, tempFolder))
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Shared{path: path, root: root, temp: temp, disk: osDisk{root}}, nil
}

// Close gives up what the process holds of the directory. No other method may
// be running or follow.
func (s *Shared) Close() error {
	return diskError("store: close", errors.Join(s.temp.close(), s.root.Close()))
}

// chunkPath is where a chunk is published. One level of 256 folders: see
// docs/format/store.md for the reason.
func (s *Shared) chunkPath(name thaw.ChunkName) string {
	hex := name.String()
	return filepath.Join(s.path, chunkFolder, hex[:2], hex)
}

// Get implements [thaw.ChunkSource]. A corrupt chunk is left where it is.
func (s *Shared) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	op := "store: get " + name.String()
	if err := ctx.Err(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	sealed, err := readBounded(s.chunkPath(name))
	switch {
	case errors.Is(err, errTooLong):
		return nil, thaw.Errorf(op, thaw.Corrupt, "%w", err)
	case err != nil:
		return nil, s.readError(op, err)
	case thaw.NameOf(sealed) != name:
		return nil, thaw.Errorf(op, thaw.Corrupt, "the stored bytes have another name")
	}
	return sealed, nil
}

// readError is the package's readError, but where the store itself is gone, as
// after its disk was unmounted, nothing can be said of what is in it.
func (s *Shared) readError(op string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Lstat(filepath.Join(s.path, formatFile)); gone != nil {
			return thaw.Errorf(op, thaw.Lost, "the store's folder is gone; is its disk mounted? (%w)", err)
		}
	}
	return readError(op, err)
}

var errTooLong = errors.New("the stored file is longer than a chunk can be")

// readBounded reads a whole file of at most MaxChunkBytes.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxChunkBytes {
		return nil, errTooLong
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}

// Chunks implements [thaw.ChunkLister]. A file that is not named as a chunk is
// yielded as a [thaw.Corrupt] error, and the listing goes on if the caller
// does.
func (s *Shared) Chunks(ctx context.Context) iter.Seq2[thaw.ChunkInfo, error] {
	return func(yield func(thaw.ChunkInfo, error) bool) {
		root := filepath.Join(s.path, chunkFolder)
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if cause := ctx.Err(); cause != nil {
				yield(thaw.ChunkInfo{}, thaw.Wrap("store: list chunks", cause))
				return fs.SkipAll
			}
			if err == nil && entry.IsDir() {
				return nil
			}
			info, err := s.chunkInfo(path, entry, err)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed since the folder was read
			}
			if !yield(info, err) {
				return fs.SkipAll
			}
			return nil
		})
	}
}

func (s *Shared) chunkInfo(path string, entry fs.DirEntry, err error) (thaw.ChunkInfo, error) {
	const op = "store: list chunks"
	if err != nil {
		return thaw.ChunkInfo{}, diskError(op, err)
	}
	name, err := thaw.ParseChunkName(entry.Name())
	if err != nil || s.chunkPath(name) != path {
		return thaw.ChunkInfo{}, thaw.Errorf(op, thaw.Corrupt, "%s is not a chunk in its place", path)
	}
	info, err := entry.Info()
	if err != nil {
		return thaw.ChunkInfo{}, diskError(op, err)
	}
	return thaw.ChunkInfo{Name: name, Bytes: info.Size()}, nil
}
