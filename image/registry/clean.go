// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
	for _, owner := range owners {
		err = errors.Join(err, s.recount(ctx, owner.Name()))
	}
	return done, diskErrorKeepingKind("clean", err)
}

// diskErrorKeepingKind leaves errors that have a kind as they are.
func diskErrorKeepingKind(op string, err error) error {
	if _, ok := errors.AsType[*thaw.Error](err); ok {
		return err
	}
	return diskError(op, err)
}

// unlinkUnnamed takes out the blobs that no manifest names, and the marks that
// nothing needs. Looking for them reads every manifest, so the first look is
// without the lock, and the second, which decides, only follows where there is
// something to decide.
func (w *Writer) unlinkUnnamed(ctx context.Context, before time.Time) error {
	unneeded, err := w.unneeded(ctx, before)
	if err != nil || len(unneeded) == 0 {
		return err
	}
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	if unneeded, err = w.unneeded(ctx, before); err != nil {
		return err
	}
	for _, path := range unneeded {
		if err := removeSynced(path); err != nil {
			return err
		}
	}
	return nil
}

// unneeded returns the paths that unlinkUnnamed takes out.
func (w *Writer) unneeded(ctx context.Context, before time.Time) ([]string, error) {
	blobs, err := w.Blobs()
	if CodeOf(err) == CodeNameUnknown {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	marks, err := w.marks()
	if err != nil || len(blobs)+len(marks) == 0 {
		return nil, err
	}
	named, err := w.named(ctx)
	if err != nil {
		return nil, err
	}
	var unneeded []string
	for path, h := range marks {
		if !named.blobs[h] && !named.others[h] {
			unneeded = append(unneeded, path)
		}
	}
	for _, h := range blobs {
		if named.blobs[h] {
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
			unneeded = append(unneeded, w.linkPath(h))
		}
	}
	return unneeded, nil
}

// marks returns the repository's marks of what was deleted, by path.
func (r *Repo) marks() (map[string]v1.Hash, error) {
	marks := map[string]v1.Hash{}
	for _, folder := range []string{"blobs", "manifests"} {
		entries, err := os.ReadDir(filepath.Join(r.dir, folder))
		if err != nil && !isNotExist(err) {
			return nil, err
		}
		for _, entry := range entries {
			file, marked := strings.CutSuffix(entry.Name(), deletedSuffix)
			if h, ok := digestOfFile(file); ok && marked {
				marks[filepath.Join(r.dir, folder, entry.Name())] = h
			}
		}
	}
	return marks, nil
}

// named are the digests that a repository's manifests and tags name.
type named struct {
	blobs  map[v1.Hash]bool // as parts of images
	others map[v1.Hash]bool // manifests, by indexes and tags
}

func (w *Writer) named(ctx context.Context) (named, error) {
	all := named{map[v1.Hash]bool{}, map[v1.Hash]bool{}}
	tags, err := w.tagsByDigest()
	if err != nil {
		return all, err
	}
	for h := range tags {
		all.others[h] = true
	}
	manifests, err := w.manifestDigests()
	if err != nil {
		return all, err
	}
	for _, h := range manifests {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		m, err := w.Manifest(h.String())
		if CodeOf(err) == CodeManifestUnknown {
			continue
		}
		if err != nil {
			return all, err
		}
		data, err := w.ManifestData(m)
		if err != nil {
			return all, err
		}
		doc, err := parseManifest(m.MediaType, data)
		if err != nil {
			return all, err
		}
		for _, d := range doc.blobs {
			all.blobs[d.Digest] = true
		}
		for _, d := range doc.manifests {
			all.others[d.Digest] = true
		}
	}
	return all, nil
}
