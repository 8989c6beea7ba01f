// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

// Cleaned counts what a round of [Store.Clean] removed.
type Cleaned struct {
	Uploads int   // that had rested too long
	Blobs   int   // that no manifest names, or no repository holds
	Bytes   int64 // freed
}

// Clean removes uploads that rested for StaleAfter, takes out of each
// repository the blobs that none of its manifests names and that have been
// there for as long, and frees the bytes that no repository holds. What is in
// use, or has just arrived, stays.
func (s *Store) Clean(ctx context.Context) (Cleaned, error) {
	var done Cleaned
	before := time.Now().Add(-s.options.StaleAfter)
	err := s.disk.emptyTrash()
	n, dropErr := s.uploads.dropStale(before)
	done.Uploads = n
	err = errors.Join(err, dropErr)
	owners, listErr := os.ReadDir(filepath.Join(s.options.Dir, "repos"))
	err = errors.Join(err, listErr)
	for _, owner := range owners {
		repositories, listErr := s.repositoriesOf(ctx, owner.Name())
		err = errors.Join(err, listErr)
		for _, desc := range repositories {
			w := &Writer{*s.repo(owner.Name(), desc.Name)}
			err = errors.Join(err, w.unlinkUnnamed(ctx, before))
		}
	}
	err = errors.Join(err, s.freeUnlinked(ctx, &done))
	return done, diskErrorKeepingKind("clean", err)
}

// diskErrorKeepingKind leaves errors that have a kind as they are.
func diskErrorKeepingKind(op string, err error) error {
	if _, ok := errors.AsType[*thaw.Error](err); ok {
		return err
	}
	return diskError(op, err)
}

// unlinkUnnamed takes out the blobs that no manifest names. Looking for them
// reads every manifest, so the first look is without the lock, and the second,
// which decides, only follows where there is something to decide.
func (w *Writer) unlinkUnnamed(ctx context.Context, before time.Time) error {
	unnamed, err := w.unnamed(ctx, before)
	if err != nil || len(unnamed) == 0 {
		return err
	}
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	if unnamed, err = w.unnamed(ctx, before); err != nil {
		return err
	}
	for _, h := range unnamed {
		if err := removeSynced(w.linkPath(h)); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) unnamed(ctx context.Context, before time.Time) ([]v1.Hash, error) {
	blobs, err := w.Blobs()
	if CodeOf(err) == CodeNameUnknown {
		return nil, nil // deleted meanwhile
	}
	if err != nil || len(blobs) == 0 {
		return nil, err
	}
	named, err := w.named(ctx)
	if err != nil {
		return nil, err
	}
	var unnamed []v1.Hash
	for _, h := range blobs {
		if named[h] {
			continue
		}
		info, err := os.Stat(w.linkPath(h))
		if isNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Making a link changes the inode, so this time is not older than the
		// youngest link of the bytes, which may be another repository's.
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && time.Unix(stat.Ctim.Unix()).Before(before) {
			unnamed = append(unnamed, h)
		}
	}
	return unnamed, nil
}

// named returns the digests of all blobs that the repository's manifests name.
func (w *Writer) named(ctx context.Context) (map[v1.Hash]bool, error) {
	manifests, err := w.manifestDigests()
	if err != nil {
		return nil, err
	}
	named := map[v1.Hash]bool{}
	for _, h := range manifests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := w.Manifest(h.String())
		if CodeOf(err) == CodeManifestUnknown {
			continue
		}
		if err != nil {
			return nil, err
		}
		data, err := w.ManifestData(m)
		if err != nil {
			return nil, err
		}
		doc, err := parseManifest(m.MediaType, data)
		if err != nil {
			return nil, err
		}
		for _, d := range doc.blobs {
			named[d.Digest] = true
		}
	}
	return named, nil
}

// freeUnlinked removes bytes that no repository links: a push that died between
// its last two steps leaves such.
func (s *Store) freeUnlinked(ctx context.Context, done *Cleaned) error {
	root := filepath.Join(s.options.Dir, "blobs")
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || entry.IsDir() {
			return err
		}
		algorithm, _ := filepath.Rel(root, filepath.Dir(filepath.Dir(path)))
		h, err := v1.NewHash(algorithm + ":" + entry.Name())
		if err != nil {
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
		n, err := s.dropUnlinked(h)
		if err == nil {
			done.Blobs++
			done.Bytes += n
		}
		return err
	})
}
