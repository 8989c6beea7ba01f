// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

// lost says that something the store's own records name is gone.
func lost(format string, args ...any) error {
	return thaw.Errorf("registry", thaw.Lost, format, args...)
}

// gone says why the blob or manifest h of the repository is not at path. Where a
// tag or a manifest of the repository names it, and its owner did not delete it,
// it is [thaw.Lost]; else it is what [Repo.missing] says.
func (r *Repo) gone(path string, h v1.Hash, code Code, format string, args ...any) error {
	err := r.missing(code, format, args...)
	if CodeOf(err) != code {
		return err
	}
	if _, statErr := os.Lstat(deletedMark(path)); statErr == nil {
		return err
	}
	named, nameErr := r.names(h)
	switch {
	case nameErr != nil:
		return nameErr
	case named:
		return &goneError{lost("%s of repository %q is gone, although the repository names it: push the image again, or delete it", h, r.name)}
	}
	return err
}

// goneError is the loss of one blob or manifest, its repository being there.
type goneError struct{ error }

// Unwrap returns the error of kind [thaw.Lost].
func (e *goneError) Unwrap() error { return e.error }

// PushMends reports whether err says that a blob or a manifest is lost that
// would be there again if it were pushed. Then who asks whether to push it must
// hear that it is not there.
func PushMends(err error) bool {
	_, ok := errors.AsType[*goneError](err)
	return ok
}

// maxLooks bounds how many files one HEAD looks for: an index can name thousands of
// images with thousands of layers each.
const maxLooks = 10_000

// whole returns the loss of a part of m, which a push of m would mend: of what it
// names, and of what that names. Tools that find a manifest there push nothing.
func (r *Repo) whole(m Manifest, looks *int) error {
	data, err := r.ManifestData(m)
	if err != nil {
		return err
	}
	doc, err := parseManifest(m.MediaType, data)
	if err != nil {
		return thaw.OurFault("registry: read "+m.Digest.String(), err)
	}
	for _, d := range doc.blobs {
		if *looks--; *looks < 0 {
			return nil
		}
		if _, err := r.StatBlob(d.Digest); PushMends(err) {
			return err
		}
	}
	for _, d := range doc.manifests {
		if *looks--; *looks < 0 {
			return nil
		}
		child, err := r.Manifest(d.Digest.String())
		if err == nil {
			err = r.whole(child, looks)
		}
		if PushMends(err) {
			return err
		}
	}
	return nil
}

// asksToPush reports whether the request is how tools ask what they need to push,
// by one who may.
func (q *request) asksToPush() bool {
	if q.r.Method != http.MethodHead || q.r.URL.Query().Get(DownloadParam) != "" {
		return false
	}
	_, refused := q.store.Writer(q.id, q.name)
	return refused == nil
}

// found is what a request to read something ends with, for an error of looking for
// it. Where it asks what to push, and a push would mend the loss, it is told code,
// for which the protocol has 404. The loss is logged and counted nevertheless.
func (q *request) found(err error, code Code) error {
	if !PushMends(err) || !q.asksToPush() {
		return err
	}
	q.hostFault(err)
	return refuse(code, "%s is to be pushed again", q.ref)
}

// hostFault logs and counts a request's failure for the host's sake.
func (q *request) hostFault(err error) {
	q.info.Err = err
	q.store.options.Log.Error("registry: request failed", "request", q.info.ID, "method", q.r.Method, "path", q.r.URL.Path, "tenant", q.id.Tenant, "err", err)
}

// deletedSuffix ends the names of marks.
const deletedSuffix = ".deleted"

// deletedMark is the file that says that the file at path was deleted by its
// owner although something may still have named it.
func deletedMark(path string) string { return path + deletedSuffix }

// markDeleted is to be called before the file of h is removed: what is named and
// not there would else look lost. Whether h is named is not looked for: a mark
// too many does no harm, and [Store.Clean] removes it.
func (w *Writer) markDeleted(path string, h v1.Hash) error {
	if !w.mayName(h) {
		return nil
	}
	return w.store.disk.writeFile(deletedMark(path))
}

// Check looks whether the folders of the store are there. It is cheap.
func (s *Store) Check() error {
	for _, name := range []string{"repos", "blobs", "uploads", "tmp"} {
		if _, err := os.Stat(filepath.Join(s.options.Dir, name)); err != nil {
			return lost("the folder %s is gone; is its disk mounted? (%w)", name, err)
		}
	}
	return nil
}
