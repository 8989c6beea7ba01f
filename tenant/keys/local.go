// SPDX-License-Identifier: Apache-2.0

// Package keys keeps the secrets of tenants: it wraps data keys under a master
// key of each tenant, and holds the one secret from which all salts are
// derived. It knows key sets and their files; it knows nothing of chunks,
// manifests or accounts.
//
// [Local] keeps them in a directory, for installations without a key
// management service. Each tenant has a Tink key set of AES-256-GCM keys in
// tenant-<account>.json; salt-master holds the other secret. The files are in
// clear and readable by their owner only (mode 0600 in a directory of mode
// 0700; files that others may read are refused): whoever can read them, or a
// backup of them, can read every image. Losing a tenant's file loses its images; losing
// salt-master costs only that new chunks no longer meet equal old ones.
//
// Several processes of one machine may use one directory: changes are made
// under a lock file, take effect whole and durably, and are noticed by the
// others at their next call.
package keys

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"thaw.dev/thaw"
)

var _ thaw.KeyWrapper = (*Local)(nil)

// Local is a [thaw.KeyWrapper] on key sets in a directory. It is safe for
// concurrent use and holds nothing that needs closing.
type Local struct {
	dir  string
	salt []byte

	mu    sync.Mutex
	rings map[thaw.TenantID]ring // as last read from their files
}

// ring is a tenant's key set, ready for use.
type ring struct {
	aead tink.AEAD
	file fs.FileInfo // to notice that the file was replaced
}

// OpenLocal opens the directory, making it and the salt secret if there are
// none. A directory or a file that others than its owner may read is
// [thaw.Invalid], a file that does not parse is [thaw.Corrupt].
func OpenLocal(dir string) (*Local, error) {
	op := "keys: open " + dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	if err := checkPrivate(dir, info); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	// The folder may be new: without its name on the disk, no key in it is.
	if err := syncFolder(filepath.Dir(filepath.Clean(dir))); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	salt, err := openSalt(dir)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	return &Local{dir: dir, salt: salt, rings: make(map[thaw.TenantID]ring)}, nil
}

// SaltMaster returns a copy of the secret, 32 bytes, from which the salts of
// all domains and roots are derived.
func (l *Local) SaltMaster() []byte { return append([]byte(nil), l.salt...) }

// Create makes a key set for a tenant that has none, and does nothing for one
// that has. Wrap does so by itself; Create does it ahead.
func (l *Local) Create(ctx context.Context, tenant thaw.TenantID) error {
	_, err := l.ring(ctx, tenant, true)
	return thaw.Wrap("keys: create "+string(tenant), err)
}

// Rotate gives a tenant a new primary key, under which Wrap wraps from then
// on, in every process. The keys before it remain and still unwrap.
func (l *Local) Rotate(ctx context.Context, tenant thaw.TenantID) error {
	op := "keys: rotate " + string(tenant)
	path, err := l.path(tenant)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return thaw.Wrap(op, err)
	}
	err = locked(l.dir, func() error {
		old, err := readPrivate(path)
		if errors.Is(err, fs.ErrNotExist) {
			return writeNewKeyset(path)
		}
		if err != nil {
			return err
		}
		return writeRotatedKeyset(path, old.data)
	})
	return thaw.Wrap(op, err)
}

// Wrap implements [thaw.KeyWrapper]. A tenant's first Wrap makes its key set.
func (l *Local) Wrap(ctx context.Context, tenant thaw.TenantID, key, context []byte) ([]byte, error) {
	op := "keys: wrap for " + string(tenant)
	r, err := l.ring(ctx, tenant, true)
	if err != nil {
		return nil, thaw.OurFault(op, err)
	}
	wrapped, err := r.aead.Encrypt(key, associatedData(tenant, context))
	return wrapped, thaw.Wrap(op, err)
}

// Unwrap implements [thaw.KeyWrapper]. A tenant's key set that is missing is
// [thaw.Lost], since a key was wrapped with it; a wrapped key that the key set
// does not open is [thaw.Denied].
func (l *Local) Unwrap(ctx context.Context, tenant thaw.TenantID, wrapped, context []byte) ([]byte, error) {
	op := "keys: unwrap for " + string(tenant)
	r, err := l.ring(ctx, tenant, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, thaw.Errorf(op, thaw.Lost, "the tenant's key set is gone: restore it from a backup (%w)", err)
	}
	if err != nil {
		return nil, thaw.OurFault(op, err)
	}
	key, err := r.aead.Decrypt(wrapped, associatedData(tenant, context))
	if err != nil {
		return nil, thaw.Errorf(op, thaw.Denied, "the key was not wrapped for this tenant and context")
	}
	return key, nil
}

// Check looks whether the salt secret is what it was when the directory was opened,
// and whether these tenants, who must have one, have a key set that can be used.
// It is cheap: a key set is read where its file has changed.
func (l *Local) Check(tenants []thaw.TenantID) error {
	const op = "keys: check"
	file, err := readPrivate(filepath.Join(l.dir, saltFile))
	if errors.Is(err, fs.ErrNotExist) {
		return thaw.Errorf(op, thaw.Lost, "the salt secret is gone: restore it from a backup (%w)", err)
	}
	if err != nil {
		return thaw.OurFault(op, err)
	}
	if !strings.Contains(string(file.data), hex.EncodeToString(l.salt)) {
		return thaw.Errorf(op, thaw.Lost, "%s holds another secret than when the server started", saltFile)
	}
	for _, tenant := range tenants {
		_, err := l.ring(context.Background(), tenant, false)
		if errors.Is(err, fs.ErrNotExist) {
			return thaw.Errorf(op, thaw.Lost, "the key set of %s is gone: restore it from a backup (%w)", tenant, err)
		}
		if err != nil {
			return thaw.OurFault(op+" of "+string(tenant), err)
		}
	}
	return nil
}

// path also keeps tenants from naming other files.
func (l *Local) path(tenant thaw.TenantID) (string, error) {
	if _, err := thaw.ParseTenantID(string(tenant)); err != nil {
		return "", err
	}
	return filepath.Join(l.dir, "tenant-"+string(tenant)+".json"), nil
}

// ring returns the key set as it now is in its file, made if create is set and
// there is none; else the error is fs.ErrNotExist.
func (l *Local) ring(ctx context.Context, tenant thaw.TenantID, create bool) (ring, error) {
	path, err := l.path(tenant)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return ring{}, err
	}
	l.mu.Lock()
	r, ok := l.rings[tenant]
	l.mu.Unlock()
	info, err := os.Stat(path)
	// A key set that was there is not made anew: it is to be restored.
	if errors.Is(err, fs.ErrNotExist) && create && !ok {
		if err := createKeyset(l.dir, path); err != nil {
			return ring{}, err
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return ring{}, err
	}
	if ok && sameFile(r.file, info) {
		return r, nil
	}
	file, err := readPrivate(path)
	if err != nil {
		return ring{}, err
	}
	if r.aead, err = parseKeyset(path, file.data); err != nil {
		return ring{}, err
	}
	r.file = file.info
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rings[tenant] = r
	return r, nil
}

// sameFile reports whether a file is still the one that was read. Key sets are
// replaced by renaming, so a new one has another inode, or at least another
// time.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func createKeyset(dir, path string) error {
	return locked(dir, func() error {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return err // another made it first, or it can't be looked at
		}
		return writeNewKeyset(path)
	})
}
