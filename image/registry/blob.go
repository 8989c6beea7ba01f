// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

// Blob is an open blob. It stays readable while it is open, also when it is
// deleted meanwhile. Its bytes were checked against the digest when they came;
// they are not checked again as they are read.
type Blob struct {
	*os.File
	Digest v1.Hash
	Bytes  int64
}

// OpenBlob opens a blob of the repository; the caller closes it. BLOB_UNKNOWN
// and NAME_UNKNOWN say what is not there; a blob that a manifest names and that
// nobody deleted is [thaw.Lost].
func (r *Repo) OpenBlob(h v1.Hash) (*Blob, error) {
	f, err := os.Open(r.linkPath(h))
	if isNotExist(err) {
		return nil, r.gone(r.linkPath(h), h, CodeBlobUnknown, "repository %q has no blob %s", r.name, h)
	}
	if err != nil {
		return nil, diskError("open "+h.String(), err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, diskError("open "+h.String(), errors.Join(err, f.Close()))
	}
	return &Blob{File: f, Digest: h, Bytes: info.Size()}, nil
}

// StatBlob returns the size of a blob of the repository in bytes; its errors
// are those of [Repo.OpenBlob].
func (r *Repo) StatBlob(h v1.Hash) (int64, error) {
	info, err := os.Stat(r.linkPath(h))
	if isNotExist(err) {
		return 0, r.gone(r.linkPath(h), h, CodeBlobUnknown, "repository %q has no blob %s", r.name, h)
	}
	if err != nil {
		return 0, diskError("stat "+h.String(), err)
	}
	return info.Size(), nil
}

func (r *Repo) linkPath(h v1.Hash) string {
	return filepath.Join(r.dir, "blobs", fileOfDigest(h))
}

// Published reports whether a public repository has the blob, so that its
// content is everyone's. The answer may be shown to anyone.
func (s *Store) Published(h v1.Hash) (bool, error) {
	r, err := s.findBlob([]string{ownerPublic}, h)
	return r != nil, err
}

// findBlob returns a repository of these owners that has the blob, or nil.
func (s *Store) findBlob(owners []string, h v1.Hash) (*Repo, error) {
	for _, owner := range owners {
		entries, err := os.ReadDir(s.ownerDir(owner))
		if err != nil && !isNotExist(err) {
			return nil, diskError("find "+h.String(), err)
		}
		for _, entry := range entries {
			r := s.repo(owner, unescapeName(entry.Name()))
			if _, err := os.Stat(r.linkPath(h)); err == nil {
				return r, nil
			} else if !isNotExist(err) {
				return nil, diskError("find "+h.String(), err)
			}
		}
	}
	return nil, nil
}

// Mount makes the blob of another repository one of this repository, without a
// copy. It reports false where from has no such blob, or can lend no more
// links: then the blob must be pushed.
func (w *Writer) Mount(from *Repo, h v1.Hash) (bool, error) {
	if _, err := os.Stat(from.linkPath(h)); isNotExist(err) {
		return false, nil
	}
	if err := w.ensure(); err != nil {
		return false, err
	}
	if err := w.mayMount(from, h); err != nil {
		return false, err
	}
	repoLock := w.store.repoLock(&w.Repo)
	repoLock.RLock()
	defer repoLock.RUnlock()
	if err := w.exists(); err != nil {
		return false, err
	}
	blobLock := w.store.blobLock(w.owner, h)
	blobLock.Lock()
	defer blobLock.Unlock()
	err := w.place(from.linkPath(h), h)
	if isNotExist(err) || errors.Is(err, syscall.EMLINK) {
		return false, nil
	}
	if err != nil {
		return false, diskError("mount "+h.String(), err)
	}
	return true, nil
}

// MountAny is [Writer.Mount] from any repository that id may read.
func (w *Writer) MountAny(id Identity, h v1.Hash) (bool, error) {
	owners := []string{ownerPublic}
	if !id.Anonymous() {
		owners = append(owners, string(id.Tenant))
	}
	from, err := w.store.findBlob(owners, h)
	if from == nil || err != nil {
		return false, err
	}
	return w.Mount(from, h)
}

// adopt takes the complete, checked and synced file temp as blob h of the
// repository. Its steps depend on what the owner has, and on nothing that
// others do.
func (w *Writer) adopt(temp string, h v1.Hash) error {
	repoLock := w.store.repoLock(&w.Repo)
	repoLock.RLock()
	defer repoLock.RUnlock()
	if err := w.exists(); err != nil {
		return err
	}
	blobLock := w.store.blobLock(w.owner, h)
	blobLock.Lock()
	defer blobLock.Unlock()
	central := w.store.blobPath(w.owner, h)
	have, err := sameSize(temp, central)
	if err == nil && have {
		if err = w.place(central, h); err == nil {
			err = w.store.disk.discard(temp)
		} else if errors.Is(err, syscall.EMLINK) {
			have, err = false, nil // so many repositories have it that it needs a second copy
		}
	}
	if err == nil && !have {
		if err = w.keep(temp, central); err == nil {
			err = w.place(central, h)
		}
	}
	if err == nil {
		err = syncDir(filepath.Dir(central))
	}
	return diskError("store "+h.String(), err)
}

// keep makes the file temp the owner's bytes at central.
func (w *Writer) keep(temp, central string) error {
	info, err := os.Stat(temp)
	if err != nil {
		return err
	}
	// What another size or too many links made useless stays counted for a
	// while. Room is not asked for: the upload has taken it, and gives it back.
	w.store.quotas.bytes.Add(w.owner, fileBytes+info.Size())
	return os.Rename(temp, central)
}

// sameSize reports whether b exists with the size of a. A file of another size
// can't be what its name says: it is to be replaced.
func sameSize(a, b string) (bool, error) {
	infoA, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	infoB, err := os.Stat(b)
	if err != nil {
		if isNotExist(err) {
			return false, nil
		}
		return false, err
	}
	return infoA.Size() == infoB.Size(), nil
}

// place links the bytes into the repository, durably. The blob's lock is held.
func (w *Writer) place(bytes string, h v1.Hash) error {
	temp := w.store.disk.tempPath("link")
	if err := os.Link(bytes, temp); err != nil {
		return err
	}
	// Renaming a link over another one of the same file does nothing, and
	// leaves both.
	err := errors.Join(os.Rename(temp, w.linkPath(h)), removeQuietly(temp))
	if err != nil {
		return err
	}
	if err := removeQuietly(deletedMark(w.linkPath(h))); err != nil {
		return err
	}
	return syncDir(filepath.Join(w.dir, "blobs"))
}

// DeleteBlob takes the blob out of the repository. Its bytes are freed later,
// where no other repository has them. Manifests that name it stay, and can't be
// pulled whole.
func (w *Writer) DeleteBlob(h v1.Hash) error {
	lock := w.store.repoLock(&w.Repo)
	lock.Lock()
	defer lock.Unlock()
	if _, err := w.StatBlob(h); err != nil && thaw.KindOf(err) != thaw.Lost {
		return err
	}
	err := w.markDeleted(w.linkPath(h), h)
	if err == nil {
		err = removeSynced(w.linkPath(h))
	}
	if err != nil {
		return diskErrorKeepingKind("delete "+h.String(), err)
	}
	w.store.loose.note(bytesOf{w.owner, h})
	return nil
}
