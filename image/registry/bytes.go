// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

// bytesOf names the bytes of an owner's blob.
type bytesOf struct {
	owner string
	hash  v1.Hash
}

// maxLoose bounds what is remembered to be freed soon; the rest is found by
// [Store.Clean].
const maxLoose = 100_000

// loose are bytes that a repository let go of since the last call of free.
type loose struct {
	mu   sync.Mutex
	seen map[bytesOf]struct{}
}

func (l *loose) note(b bytesOf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[bytesOf]struct{}{}
	}
	if len(l.seen) < maxLoose {
		l.seen[b] = struct{}{}
	}
}

func (l *loose) take() map[bytesOf]struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = nil
	return seen
}

// free removes what requests discarded and what repositories let go of.
func (s *Store) free() error {
	err := s.disk.emptyTrash()
	for b := range s.loose.take() {
		_, freed := s.dropUnlinked(b.owner, s.blobPath(b.owner, b.hash), b.hash)
		_, freedShared := s.dropUnlinked("", s.sharedPath(b.hash), b.hash)
		err = errors.Join(err, freed, freedShared)
	}
	return err
}

// dropUnlinked removes the bytes at path, which are h's, if no repository links
// them, and returns how many.
func (s *Store) dropUnlinked(owner, path string, h v1.Hash) (int64, error) {
	lock := s.blobLock(owner, h)
	lock.Lock()
	defer lock.Unlock()
	info, err := os.Stat(path)
	if isNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, diskError("free "+h.String(), err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, thaw.Errorf("registry: free "+h.String(), thaw.Internal, "the file system tells no link count")
	}
	if stat.Nlink > 1 {
		return 0, nil
	}
	if err := removeSynced(path); err != nil {
		return 0, diskError("free "+h.String(), err)
	}
	s.quotas.bytes.Give(owner, fileBytes+info.Size())
	return info.Size(), nil
}

// freeUnlinked removes bytes that no repository links: a process that died
// leaves such.
func (s *Store) freeUnlinked(ctx context.Context, done *Cleaned) error {
	root := filepath.Join(s.options.Dir, "blobs")
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || entry.IsDir() {
			return err
		}
		owner, h, ok := bytesAt(root, path)
		if !ok {
			return nil // not a blob, so not ours
		}
		info, err := entry.Info()
		if err != nil {
			if isNotExist(err) {
				return nil
			}
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Nlink > 1 {
			return nil
		}
		n, err := s.dropUnlinked(owner, path, h)
		if err == nil {
			done.Blobs++
			done.Bytes += n
		}
		return err
	})
}

// bytesAt says whose bytes are at a path below root: OWNER/ALGORITHM-HEX, or
// ALGORITHM/XX/HEX where they were everyone's.
func bytesAt(root, path string) (owner string, h v1.Hash, ok bool) {
	dir, file := filepath.Split(path)
	if h, ok := digestOfFile(file); ok {
		return filepath.Base(dir), h, true
	}
	algorithm, err := filepath.Rel(root, filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return "", h, false
	}
	h, err = v1.NewHash(algorithm + ":" + file)
	return "", h, err == nil
}
