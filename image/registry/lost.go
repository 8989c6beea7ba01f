// SPDX-License-Identifier: Apache-2.0

package registry

import (
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
		return lost("%s of repository %q is gone, although the repository names it: delete the image and push it again", h, r.name)
	}
	return err
}

// deletedMark is the file that says that the file at path was deleted by its
// owner although something still named it.
func deletedMark(path string) string { return path + ".deleted" }

// markDeleted is to be called before the file of h is removed: what is named and
// not there would else look lost.
func (w *Writer) markDeleted(path string, h v1.Hash) error {
	named, err := w.names(h)
	if err != nil || !named {
		return err
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
