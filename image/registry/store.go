// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
	"thaw.dev/thaw/internal/spool"
)

// Options say how a store behaves. Start from [DefaultOptions].
type Options struct {
	// Dir is the folder of the store; made where it is missing. It must be one
	// file system that has hard links.
	Dir string

	// Publishers are the tenants that may write the names below "public/".
	Publishers []thaw.TenantID

	// MaxBlobBytes bounds one blob.
	MaxBlobBytes int64

	// Limits bound what an owner may have.
	Limits Limits

	// StaleAfter is how long an upload may rest between two requests, and how
	// long a blob may stay in a repository without a manifest that names it.
	StaleAfter time.Duration

	// CleanEvery is the pause between two rounds of [Store.Run].
	CleanEvery time.Duration

	// Spool takes manifests in; nil means one of the store's own.
	Spool *spool.Store

	// Log receives what the store did on its own account and what failed.
	Log *slog.Logger
}

// DefaultOptions are those of `thaw serve`.
func DefaultOptions(dir string) Options {
	return Options{
		Dir:          dir,
		MaxBlobBytes: DefaultMaxBlobBytes,
		Limits:       DefaultLimits(),
		StaleAfter:   24 * time.Hour,
		CleanEvery:   time.Hour,
		Log:          slog.Default(),
	}
}

// Validate refuses with [thaw.Invalid] what no store can work with.
func (o Options) Validate() error {
	const op = "registry options"
	switch {
	case o.Dir == "":
		return thaw.Errorf(op, thaw.Invalid, "no folder given")
	case o.MaxBlobBytes <= 0 || o.StaleAfter <= 0 || o.CleanEvery <= 0:
		return thaw.Errorf(op, thaw.Invalid, "the limit of a blob and times must be positive")
	case !o.Limits.valid():
		return thaw.Errorf(op, thaw.Invalid, "%+v: limits must not be negative", o.Limits)
	case o.Log == nil:
		return thaw.Errorf(op, thaw.Invalid, "no logger given")
	}
	for _, t := range o.Publishers {
		if _, err := thaw.ParseTenantID(string(t)); err != nil {
			return thaw.Wrap(op, err)
		}
	}
	return nil
}

// spoolBytes bounds the manifests that come at once.
const spoolBytes = 1 << 30

// Store keeps repositories in a folder. All its methods are safe for
// concurrent use; one process at a time may have the folder open.
type Store struct {
	options    Options
	publishers map[thaw.TenantID]bool
	disk       disk
	lock       io.Closer
	locks      locks
	uploads    uploads
	indexes    *indexes
	loose      loose
	quotas     quotas
	buffers    *fair.Pool // the large buffers of uploads

	closing sync.Once
	closed  error // what Close returned
}

// Open opens the store, making it where it is missing, and removes what a
// process that died left half-done. It fails with [thaw.Conflict] while another
// process has the store open.
func Open(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Spool == nil {
		o.Spool = spool.New(filepath.Join(o.Dir, "tmp"), spoolBytes)
	}
	s := &Store{options: o, publishers: map[thaw.TenantID]bool{}, indexes: newIndexes(), locks: newLocks(), disk: disk{tmp: filepath.Join(o.Dir, "tmp")},
		buffers: fair.New(fair.Options{Name: "upload-buffers", Size: maxBuffers, KeepFree: true})}
	for _, t := range o.Publishers {
		s.publishers[t] = true
	}
	s.quotas.init(o.Limits)
	s.uploads.quotas = &s.quotas
	if err := makeDir(o.Dir); err != nil {
		return nil, diskError("open", err)
	}
	lock, err := lockFile(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return nil, thaw.Errorf("registry: open", thaw.Conflict, "another process has %s open: %w", o.Dir, err)
	}
	s.lock = lock
	if err := s.prepare(); err != nil {
		return nil, errors.Join(diskError("open", err), lock.Close())
	}
	return s, nil
}

// prepare makes the folders, empties tmp and finds the uploads that may go on.
func (s *Store) prepare() error {
	if err := os.RemoveAll(s.disk.tmp); err != nil {
		return err
	}
	for _, name := range []string{"tmp", "uploads", "repos", "blobs"} {
		if err := makeDir(filepath.Join(s.options.Dir, name)); err != nil {
			return err
		}
	}
	return s.uploads.load(filepath.Join(s.options.Dir, "uploads"))
}

// Close lets another process open the store. Requests that are still running
// must have ended. A second call does nothing.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = errors.Join(s.free(), s.lock.Close()) })
	return s.closed
}

// freeEvery is how long bytes stay on disk that nobody needs any more: no
// request frees any.
const freeEvery = 10 * time.Second

// Run cleans at once and then every CleanEvery until ctx ends; it returns nil
// then. What fails is logged and tried again in the next round.
func (s *Store) Run(ctx context.Context) error {
	clean, trash := time.NewTicker(s.options.CleanEvery), time.NewTicker(freeEvery)
	defer clean.Stop()
	defer trash.Stop()
	s.cleanAndLog(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-clean.C:
			s.cleanAndLog(ctx)
		case <-trash.C:
			if err := errors.Join(s.free(), s.recountStale(ctx)); err != nil && ctx.Err() == nil {
				s.options.Log.Error("registry: freeing what was discarded failed", "err", err)
			}
		}
	}
}

func (s *Store) cleanAndLog(ctx context.Context) {
	done, err := s.Clean(ctx)
	if err != nil && ctx.Err() == nil {
		s.options.Log.Error("registry: cleaning failed", "err", err)
	}
	if done != (Cleaned{}) {
		s.options.Log.Info("registry: cleaned", "uploads", done.Uploads, "blobs", done.Blobs, "bytes", done.Bytes)
	}
}

func (s *Store) repo(owner, name string) *Repo {
	return &Repo{store: s, owner: owner, name: name, dir: filepath.Join(s.ownerDir(owner), escapeName(name))}
}

func (s *Store) ownerDir(owner string) string {
	return filepath.Join(s.options.Dir, "repos", owner)
}

// blobsDir has the bytes of all blobs of an owner. Owners share none: whether
// bytes are in the page cache, and how long it takes to free them, would tell
// one what another has.
func (s *Store) blobsDir(owner string) string {
	return filepath.Join(s.options.Dir, "blobs", owner)
}

// blobPath is where the bytes of an owner's blob are, if it has it.
func (s *Store) blobPath(owner string, h v1.Hash) string {
	return filepath.Join(s.blobsDir(owner), fileOfDigest(h))
}

// sharedPath is where earlier versions kept the bytes for all owners. The links
// that repositories have to them stay good.
func (s *Store) sharedPath(h v1.Hash) string {
	return filepath.Join(s.options.Dir, "blobs", h.Algorithm, h.Hex[:2], h.Hex)
}

// A repository's name has at most 255 bytes and no "!", so its escaped form
// fits a file name and can be read back.
func escapeName(name string) string   { return strings.ReplaceAll(name, "/", "!") }
func unescapeName(file string) string { return strings.ReplaceAll(file, "!", "/") }

func fileOfDigest(h v1.Hash) string { return h.Algorithm + "-" + h.Hex }

// digestOfFile is the inverse of fileOfDigest, false for any other file.
func digestOfFile(file string) (v1.Hash, bool) {
	algorithm, hex, _ := strings.Cut(file, "-")
	h, err := v1.NewHash(algorithm + ":" + hex)
	return h, err == nil
}
