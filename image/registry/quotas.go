// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"thaw.dev/thaw/internal/quota"
)

// Limits bound what an owner may have; 0 is no bound.
type Limits struct {
	Repositories int64
	Images       int64 // manifests, of one repository
	Tags         int64 // of one repository
	Uploads      int64 // under way
	Bytes        int64 // of different blobs, manifests, tags and uploads
}

// DefaultLimits are those of `thaw serve`, which besides bounds Bytes by the
// disk.
func DefaultLimits() Limits {
	return Limits{
		Repositories: 10_000,
		Images:       100_000,
		Tags:         100_000,
		Uploads:      1000,
	}
}

func (l Limits) valid() bool {
	return l.Repositories >= 0 && l.Images >= 0 && l.Tags >= 0 && l.Uploads >= 0 && l.Bytes >= 0
}

// fileBytes is what a file costs beside its bytes: ext4 makes one inode for so
// many bytes of the disk, so who has no more bytes than a share of the disk has
// no more than that share of its inodes.
const fileBytes = 16 << 10

// repositoryBytes is what an empty repository costs: its folders and settings.
const repositoryBytes = 6 * fileBytes

// quotas count what owners have. Of repositories and bytes that is known once
// the owner was counted; of images and tags once the repository was.
type quotas struct {
	repositories, uploads, bytes *quota.Quota // by owner
	images, tags                 *quota.Quota // by owner and repository

	mu    sync.Mutex
	stale map[string]bool // owners who are to be counted again
}

func (q *quotas) init(l Limits) {
	q.repositories = quota.New("repositories", l.Repositories)
	q.images = quota.New("images", l.Images)
	q.tags = quota.New("tags", l.Tags)
	q.uploads = quota.New("uploads", l.Uploads)
	q.bytes = quota.New("registry-bytes", l.Bytes)
	q.stale = map[string]bool{}
}

// Quotas returns the bounds of owners, by owner, and those of repositories, by
// "OWNER/NAME".
func (s *Store) Quotas() []*quota.Quota {
	q := &s.quotas
	return []*quota.Quota{q.repositories, q.images, q.tags, q.uploads, q.bytes}
}

// CountOwner makes what an owner has known to [Store.Quotas].
func (s *Store) CountOwner(ctx context.Context, owner string) error {
	if _, known := s.quotas.bytes.Used(owner); known {
		return nil
	}
	lock := &s.locks.of(owner).counting
	lock.Lock()
	defer lock.Unlock()
	if _, known := s.quotas.bytes.Used(owner); known {
		return nil
	}
	return s.recount(ctx, owner)
}

// recount counts what an owner has. What comes and goes meanwhile is counted by
// the next time.
func (s *Store) recount(ctx context.Context, owner string) error {
	repositories, err := s.repositoriesOf(ctx, owner)
	if err != nil {
		return err
	}
	total := int64(len(repositories)) * repositoryBytes
	blobs := map[v1.Hash]bool{}
	for _, desc := range repositories {
		r := s.repo(owner, desc.Name)
		n, err := r.countFiles(ctx, blobs)
		if err != nil {
			return err
		}
		total += n
	}
	s.quotas.repositories.Set(owner, int64(len(repositories)))
	s.quotas.bytes.Set(owner, total+s.uploads.chargedTo(owner))
	return nil
}

// countFiles returns what the repository's files cost, without blobs that are in
// seen, and adds its own there.
func (r *Repo) countFiles(ctx context.Context, seen map[v1.Hash]bool) (total int64, err error) {
	for _, folder := range []string{"blobs", "manifests", "tags"} {
		entries, err := os.ReadDir(filepath.Join(r.dir, folder))
		if err != nil && !isNotExist(err) {
			return 0, diskError("count "+r.name, err)
		}
		for _, entry := range entries {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if h, ok := digestOfFile(entry.Name()); ok && folder == "blobs" {
				if seen[h] {
					continue
				}
				seen[h] = true
			}
			total += fileBytes
			if folder == "tags" {
				continue
			}
			info, err := entry.Info()
			if err != nil && !isNotExist(err) {
				return 0, diskError("count "+r.name, err)
			}
			if err == nil {
				total += info.Size()
			}
		}
	}
	return total, nil
}

// recountStale counts the owners again whose repositories went.
func (s *Store) recountStale(ctx context.Context) error {
	s.quotas.mu.Lock()
	stale := s.quotas.stale
	s.quotas.stale = map[string]bool{}
	s.quotas.mu.Unlock()
	var err error
	for owner := range stale {
		err = errors.Join(err, s.recount(ctx, owner))
	}
	return err
}

// charge counts n more bytes of the owner, in its quota and in charged.
func (w *Writer) charge(charged *atomic.Int64, n int64) error {
	if err := w.store.CountOwner(context.Background(), w.owner); err != nil {
		return err
	}
	if !w.store.quotas.bytes.Take(w.owner, n) {
		return overQuota("account %s stores as much as it may, %d bytes: delete images that you need no more", w.owner, w.store.quotas.bytes.Limit())
	}
	charged.Add(n)
	return nil
}

func (w *Writer) uncharge(charged *atomic.Int64, n int64) {
	w.store.quotas.bytes.Give(w.owner, n)
	charged.Add(-n)
}

// overQuota words a refusal for the owner.
func overQuota(format string, args ...any) error {
	return refuse(CodeQuota, format+", or ask the operator for more", args...)
}

// mayExist refuses what would make a repository too many, before anything is
// sent for it.
func (w *Writer) mayExist() error {
	limit := w.store.quotas.repositories.Limit()
	if limit == 0 || w.exists() == nil {
		return nil
	}
	if err := w.store.CountOwner(context.Background(), w.owner); err != nil {
		return err
	}
	if used, _ := w.store.quotas.repositories.Used(w.owner); used >= limit {
		w.store.quotas.repositories.Refuse()
		return w.tooManyRepositories()
	}
	return nil
}

func (w *Writer) tooManyRepositories() error {
	return overQuota("account %s has as many repositories as it may have, %d: delete some", w.owner, w.store.quotas.repositories.Limit())
}

// takeRepository counts a repository that is to be made.
func (w *Writer) takeRepository() error {
	var charged atomic.Int64
	if err := w.charge(&charged, repositoryBytes); err != nil {
		return err
	}
	if !w.store.quotas.repositories.Take(w.owner, 1) {
		w.uncharge(&charged, repositoryBytes)
		return w.tooManyRepositories()
	}
	return nil
}

// giveRepository is for a repository that is gone, or was not made. What was in
// it is found by counting.
func (w *Writer) giveRepository() {
	q := &w.store.quotas
	q.repositories.Give(w.owner, 1)
	q.images.Forget(w.key())
	q.tags.Forget(w.key())
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stale[w.owner] = true
}

// key is the repository's name among those of all owners.
func (r *Repo) key() string { return r.owner + "/" + r.name }

// takeManifest counts a manifest and its tags that are to be stored. The
// repository's lock is held alone.
func (w *Writer) takeManifest(h v1.Hash, p Push) error {
	q := &w.store.quotas
	if err := w.countRepository(); err != nil {
		return err
	}
	var images, tags int64
	if _, err := os.Lstat(w.manifestPath(h)); isNotExist(err) {
		images = 1
	}
	seen := map[string]bool{}
	for _, tag := range p.Tags {
		if _, err := os.Lstat(w.tagPath(tag)); isNotExist(err) && !seen[tag] {
			seen[tag] = true
			tags++
		}
	}
	var charged atomic.Int64
	if err := w.charge(&charged, costOf(images, int64(len(p.Data)), tags)); err != nil {
		return err
	}
	if !q.images.Take(w.key(), images) {
		w.uncharge(&charged, charged.Load())
		return overQuota("repository %q has as many images as it may have, %d: delete some", w.name, q.images.Limit())
	}
	if !q.tags.Take(w.key(), tags) {
		q.images.Give(w.key(), images)
		w.uncharge(&charged, charged.Load())
		return overQuota("repository %q has as many tags as it may have, %d: delete some", w.name, q.tags.Limit())
	}
	return nil
}

// giveManifest is for what was deleted.
func (w *Writer) giveManifest(images, bytes, tags int64) {
	q := &w.store.quotas
	q.images.Give(w.key(), images)
	q.tags.Give(w.key(), tags)
	q.bytes.Give(w.owner, costOf(images, bytes, tags))
}

func costOf(images, bytes, tags int64) int64 {
	return images*(fileBytes+bytes) + tags*fileBytes
}

// countRepository makes known how many images and tags the repository has. The
// repository's lock is held alone.
func (w *Writer) countRepository() error {
	q := &w.store.quotas
	if _, known := q.images.Used(w.key()); known {
		return nil
	}
	manifests, err := w.manifestDigests()
	if err != nil {
		return err
	}
	tags, err := w.tagNames()
	if err != nil {
		return err
	}
	q.images.Set(w.key(), int64(len(manifests)))
	q.tags.Set(w.key(), int64(len(tags)))
	return nil
}

// mayMount counts a blob of another repository that is to be one of this, unless
// the owner has it already.
func (w *Writer) mayMount(from *Repo, h v1.Hash) error {
	if from.owner == w.owner {
		return nil
	}
	for _, path := range []string{w.linkPath(h), w.store.blobPath(w.owner, h)} {
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
	}
	n, err := from.StatBlob(h)
	if err != nil {
		return nil //nolint:nilerr // the mount finds that out
	}
	var charged atomic.Int64
	return w.charge(&charged, fileBytes+n)
}

// OfOwner reports whether a key of [Store.Quotas] is an owner's, or one of its
// repositories.
func OfOwner(owner string) func(key string) bool {
	return func(key string) bool { return key == owner || strings.HasPrefix(key, owner+"/") }
}
