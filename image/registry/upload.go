// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	thaw "thaw.dev/thaw"
)

const (
	// copyBytes is the buffer of an upload: large enough that the calls into
	// the kernel do not show beside the hash. An upload has one as long as it
	// goes on, however slowly, so past maxBuffers at once, or where others need
	// them, it makes do with smallBytes.
	copyBytes = 256 << 10

	maxBuffers = 128
	smallBytes = 16 << 10

	// flushBytes is how much of an upload may wait in the page cache before
	// its writing to disk is begun, so that the sync at the end is short.
	flushBytes = 32 << 20
)

// Upload is a blob on its way into a repository. It belongs to the repository
// it was started in and outlives the process. Requests about one upload take
// turns; another one waits until its context ends.
type Upload struct {
	ID      string
	writer  *Writer
	session *session
}

// session is what the process remembers of an upload.
type session struct {
	path  string
	owner string
	turn  chan struct{} // holds one token while nobody works on the upload

	charged atomic.Int64 // bytes that the owner's quota counts for it

	// The rest belongs to whoever has the token.
	bytes int64     // received
	hash  hash.Hash // of algorithm, over all of them; nil if it must be computed from the file
	// algorithm is the one the digest will probably have.
	algorithm string
	ended     bool // committed or cancelled
}

// uploads are the sessions of a store, by path.
type uploads struct {
	dir    string
	quotas *quotas

	mu     sync.Mutex
	byPath map[string]*session
}

// load finds the uploads that a former process left.
func (u *uploads) load(dir string) error {
	u.dir, u.byPath = dir, map[string]*session{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner, _, _ := strings.Cut(entry.Name(), ".")
		s := &session{path: filepath.Join(dir, entry.Name()), owner: owner, bytes: info.Size(), algorithm: "sha256"}
		s.charged.Store(fileBytes + s.bytes)
		had, _ := u.quotas.uploads.Used(owner)
		u.quotas.uploads.Set(owner, had+1)
		u.addLocked(s)
	}
	return nil
}

func (u *uploads) addLocked(s *session) {
	s.turn = make(chan struct{}, 1)
	s.turn <- struct{}{}
	u.byPath[s.path] = s
}

func (u *uploads) forget(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.byPath[s.path]; !ok {
		return
	}
	delete(u.byPath, s.path)
	u.quotas.uploads.Give(s.owner, 1)
	u.quotas.bytes.Give(s.owner, s.charged.Swap(0))
}

// chargedTo returns the bytes that an owner's quota counts for its uploads.
func (u *uploads) chargedTo(owner string) (n int64) {
	for _, s := range u.snapshot() {
		if s.owner == owner {
			n += s.charged.Load()
		}
	}
	return n
}

func (u *uploads) snapshot() []*session {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make([]*session, 0, len(u.byPath))
	for _, s := range u.byPath {
		all = append(all, s)
	}
	return all
}

// prefix begins the file names of a repository's uploads. The name is hashed
// since a file name has no room for it and an id.
func (u *uploads) prefix(r *Repo) string {
	sum := sha256.Sum256([]byte(r.name))
	return filepath.Join(u.dir, r.owner+"."+hex.EncodeToString(sum[:16])+".")
}

// dropAll cancels the uploads of a repository that nobody is working on; the
// others find the repository gone when they end.
func (u *uploads) dropAll(r *Repo) error {
	prefix := u.prefix(r)
	var err error
	for _, s := range u.snapshot() {
		if strings.HasPrefix(s.path, prefix) {
			_, dropErr := u.drop(s, func(os.FileInfo) bool { return true })
			err = errors.Join(err, dropErr)
		}
	}
	return err
}

// drop cancels a resting session if its file satisfies test.
func (u *uploads) drop(s *session, test func(os.FileInfo) bool) (bool, error) {
	select {
	case <-s.turn:
	default:
		return false, nil // at work, so not stale
	}
	defer func() { s.turn <- struct{}{} }()
	info, err := os.Stat(s.path)
	if err != nil && !isNotExist(err) {
		return false, err
	}
	if s.ended || (err == nil && !test(info)) {
		return false, nil
	}
	s.ended = true
	u.forget(s)
	return true, removeQuietly(s.path)
}

// dropStale cancels the sessions that have rested since before.
func (u *uploads) dropStale(before time.Time) (int, error) {
	n := 0
	var err error
	for _, s := range u.snapshot() {
		dropped, dropErr := u.drop(s, func(info os.FileInfo) bool { return info.ModTime().Before(before) })
		err = errors.Join(err, dropErr)
		if dropped {
			n++
		}
	}
	return n, err
}

// StartUpload begins an upload. algorithm is what its digest will probably
// use, "sha256" or "sha512"; another digest costs a second pass over the bytes
// at the end. It fails with TOOMANYREQUESTS where the owner has too many
// uploads under way, and with QUOTA_EXCEEDED where it may store no more.
func (w *Writer) StartUpload(algorithm string) (*Upload, error) {
	hasher, err := v1.Hasher(algorithm)
	if err != nil {
		return nil, refuse(CodeDigestInvalid, "digest algorithm %q is not supported", clip(algorithm))
	}
	if err := w.mayExist(); err != nil {
		return nil, err
	}
	id := newUUID()
	s := &session{path: w.store.uploads.prefix(&w.Repo) + id, owner: w.owner, hash: hasher, algorithm: algorithm}
	u, q := &w.store.uploads, &w.store.quotas
	if !q.uploads.Take(w.owner, 1) {
		return nil, refuse(CodeTooManyRequests, "%d uploads are under way; finish or cancel some", q.uploads.Limit())
	}
	err = w.charge(&s.charged, fileBytes)
	if err == nil {
		err = diskError("start an upload", createEmpty(s.path))
	}
	if err != nil {
		q.uploads.Give(w.owner, 1)
		q.bytes.Give(w.owner, s.charged.Load())
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.addLocked(s)
	return &Upload{ID: id, writer: w, session: s}, nil
}

// Upload returns the upload of that id in this repository, or
// BLOB_UPLOAD_UNKNOWN.
func (w *Writer) Upload(id string) (*Upload, error) {
	u := &w.store.uploads
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.byPath[u.prefix(&w.Repo)+id]
	if s == nil || strings.ContainsAny(id, "/.") {
		return nil, uploadUnknown(id)
	}
	return &Upload{ID: id, writer: w, session: s}, nil
}

func uploadUnknown(id string) error {
	return refuse(CodeBlobUploadUnknown, "no upload %q in this repository", clip(id))
}

// take waits for the turn; the returned function passes it on.
func (u *Upload) take(ctx context.Context) (func(), error) {
	select {
	case <-u.session.turn:
	case <-ctx.Done():
		return nil, thaw.Wrap("registry: upload "+u.ID, ctx.Err())
	}
	if u.session.ended {
		u.session.turn <- struct{}{}
		return nil, uploadUnknown(u.ID)
	}
	return func() { u.session.turn <- struct{}{} }, nil
}

// Bytes returns how many bytes have been received.
func (u *Upload) Bytes(ctx context.Context) (int64, error) {
	done, err := u.take(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	return u.session.bytes, nil
}

// Chunk says where in a blob the bytes of a request belong. The zero Chunk is
// whatever comes next, up to the request's end.
type Chunk struct {
	Given bool
	First int64
	Last  int64 // inclusive
}

// Append adds what body holds to the upload and returns how many bytes it has
// then. A chunk that does not begin where the upload stands is RANGE_INVALID
// and changes nothing. Where body fails, what came before stays: the client
// can ask for [Upload.Bytes] and go on.
func (u *Upload) Append(ctx context.Context, chunk Chunk, body io.Reader) (int64, error) {
	done, err := u.take(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	err = u.appendLocked(chunk, body)
	return u.session.bytes, err
}

func (u *Upload) appendLocked(chunk Chunk, body io.Reader) error {
	s := u.session
	want := int64(-1)
	if chunk.Given {
		if chunk.First != s.bytes {
			return refuse(CodeRangeInvalid, "the chunk begins at %d, the upload stands at %d", chunk.First, s.bytes)
		}
		want = chunk.Last - chunk.First + 1
		body = io.LimitReader(body, want+1)
	}
	before := s.bytes
	if err := u.copyLocked(body); err != nil {
		return err
	}
	if got := s.bytes - before; want >= 0 && got != want {
		// Undone, since the client believes that it sent something else.
		s.bytes, s.hash = before, nil
		u.writer.uncharge(&s.charged, got)
		if err := os.Truncate(s.path, before); err != nil {
			return diskError("upload", err)
		}
		return refuse(CodeSizeInvalid, "the chunk does not have the %d bytes of its range", want)
	}
	return nil
}

// copyLocked writes body to the end of the file and into the hash.
func (u *Upload) copyLocked(body io.Reader) (err error) {
	s := u.session
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, filePerm)
	if err != nil {
		return diskError("upload", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	limit := u.writer.store.options.MaxBlobBytes
	size := smallBytes
	if release, ok := u.writer.store.buffers.TryAcquire(s.owner, 1); ok {
		defer release()
		size = copyBytes
	}
	buffer := make([]byte, size)
	flushed := s.bytes
	for {
		n, readErr := body.Read(buffer)
		if n > 0 {
			if s.bytes+int64(n) > limit {
				return refuseAs(CodeSizeInvalid, thaw.TooLarge, "a blob has at most %d bytes", limit)
			}
			if err := u.writeLocked(f, buffer[:n]); err != nil {
				return err
			}
		}
		if s.bytes-flushed >= flushBytes {
			// Only a hint: what it misses the sync at the end will catch.
			_ = unix.SyncFileRange(int(f.Fd()), flushed, s.bytes-flushed, unix.SYNC_FILE_RANGE_WRITE)
			flushed = s.bytes
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return refuse(CodeBlobUploadInvalid, "the request's body broke off after %d bytes of the blob", s.bytes)
		}
	}
}

func (u *Upload) writeLocked(f *os.File, p []byte) error {
	s := u.session
	if err := u.writer.charge(&s.charged, int64(len(p))); err != nil {
		return err
	}
	n, err := f.Write(p)
	s.bytes += int64(n)
	if s.hash != nil {
		s.hash.Write(p[:n]) // never fails
	}
	return diskError("upload", err)
}

// Commit ends the upload with what body still holds: it becomes the blob h of
// the repository, durably. Bytes that are not h are DIGEST_INVALID, and the
// upload is gone; an error of body, or a range that does not fit, leaves it.
func (u *Upload) Commit(ctx context.Context, h v1.Hash, chunk Chunk, body io.Reader) error {
	done, err := u.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	s := u.session
	if s.bytes == 0 && h.Algorithm != s.algorithm {
		if s.hash, err = v1.Hasher(h.Algorithm); err != nil {
			return refuse(CodeDigestInvalid, "digest algorithm %q is not supported", clip(h.Algorithm))
		}
		s.algorithm = h.Algorithm
	}
	if err := u.appendLocked(chunk, body); err != nil {
		return err
	}
	got, err := u.digestLocked(ctx, h.Algorithm)
	if err != nil {
		return err
	}
	if got != h {
		return errors.Join(refuse(CodeDigestInvalid, "the %d bytes received are %s, not %s", s.bytes, got, h), u.endLocked())
	}
	if err := syncFile(s.path); err != nil {
		return diskError("upload", err)
	}
	if err := u.writer.ensure(); err != nil {
		return err
	}
	if err := u.writer.adopt(s.path, h); err != nil {
		return err
	}
	return u.endLocked()
}

// digestLocked returns the digest of all bytes received: that of the running
// hash, or one computed from the file where another process began the upload
// or the client changed its mind.
func (u *Upload) digestLocked(ctx context.Context, algorithm string) (v1.Hash, error) {
	s := u.session
	if s.hash != nil && s.algorithm == algorithm {
		return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(s.hash.Sum(nil))}, nil
	}
	h, err := hashFile(ctx, s.path, algorithm)
	return h, diskError("upload", err)
}

// Cancel drops the upload and its bytes.
func (u *Upload) Cancel(ctx context.Context) error {
	done, err := u.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	return u.endLocked()
}

func (u *Upload) endLocked() error {
	u.session.ended = true
	u.writer.store.uploads.forget(u.session)
	return diskError("upload", removeQuietly(u.session.path))
}

func hashFile(ctx context.Context, path, algorithm string) (v1.Hash, error) {
	hasher, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return v1.Hash{}, err
	}
	defer f.Close() // only read
	buffer := make([]byte, copyBytes)
	for {
		n, err := f.Read(buffer)
		hasher.Write(buffer[:n]) // never fails
		if errors.Is(err, io.EOF) {
			return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(hasher.Sum(nil))}, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return v1.Hash{}, err
		}
	}
}

func createEmpty(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	return f.Close()
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, filePerm)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// newUUID returns a random UUID: the form that ECR's clients expect of an
// upload's id, and 122 bits that nobody guesses.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
