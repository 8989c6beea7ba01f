// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// getBlob serves GET with ranges, and HEAD.
func (q *request) getBlob() error {
	repo, err := q.store.Reader(q.id, q.name)
	if err != nil {
		return err
	}
	h, err := ParseDigest(q.ref)
	if err != nil {
		return err
	}
	blob, err := repo.OpenBlob(h)
	if err != nil {
		return q.found(err, CodeBlobUnknown)
	}
	defer blob.Close() // only read
	header := q.w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Docker-Content-Digest", h.String())
	header.Set("ETag", `"`+h.String()+`"`)
	if repo.Public() {
		// The address names the content, so that any cache may keep it.
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(q.w, q.r, "", time.Time{}, blob.File)
	return nil
}

func (q *request) deleteBlob() error {
	repo, err := q.store.Writer(q.id, q.name)
	if err != nil {
		return err
	}
	h, err := ParseDigest(q.ref)
	if err != nil {
		return err
	}
	if err := repo.DeleteBlob(h); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}

// startUpload begins an upload, or does all of it where the digest is given, or
// mounts a blob of another repository.
func (q *request) startUpload() error {
	repo, err := q.store.Writer(q.id, q.name)
	if err != nil {
		return err
	}
	query := q.r.URL.Query()
	if query.Get("mount") != "" {
		if mounted, err := q.mount(repo); mounted || err != nil {
			return err
		}
	}
	algorithm := query.Get("digest-algorithm")
	if algorithm == "" {
		algorithm = "sha256"
	}
	if query.Get("digest") != "" {
		if _, err := ParseDigest(query.Get("digest")); err != nil {
			return err
		}
	}
	upload, err := repo.StartUpload(algorithm)
	if err != nil {
		return err
	}
	if query.Get("digest") != "" && query.Get("mount") == "" {
		return q.commit(upload)
	}
	q.acceptUpload(upload, 0)
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount reports whether the blob was mounted, and if so has answered. A source
// that the caller may not read is like one that has no such blob.
func (q *request) mount(repo *Writer) (bool, error) {
	query := q.r.URL.Query()
	h, err := ParseDigest(query.Get("mount"))
	if err != nil {
		return false, err
	}
	mounted := false
	if from := query.Get("from"); from == "" {
		mounted, err = repo.MountAny(q.id, h)
	} else if source, readErr := q.store.Reader(q.id, from); readErr == nil {
		mounted, err = repo.Mount(source, h)
	}
	if mounted {
		q.blobCreated(h.String())
	}
	return mounted, err
}

func (q *request) uploadStatus() error {
	upload, err := q.upload()
	if err != nil {
		return err
	}
	n, err := upload.Bytes(q.r.Context())
	if err != nil {
		return err
	}
	q.acceptUpload(upload, n)
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (q *request) continueUpload() error {
	upload, err := q.upload()
	if err != nil {
		return err
	}
	chunk, err := q.chunk()
	if err != nil {
		return err
	}
	n, err := upload.Append(q.r.Context(), chunk, q.r.Body)
	if err != nil {
		if CodeOf(err) == CodeRangeInvalid {
			q.acceptUpload(upload, n)
		}
		return err
	}
	q.acceptUpload(upload, n)
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}

func (q *request) finishUpload() error {
	upload, err := q.upload()
	if err != nil {
		return err
	}
	return q.commit(upload)
}

// commit ends an upload with the request's body as its last part.
func (q *request) commit(upload *Upload) error {
	h, err := ParseDigest(q.r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	chunk, err := q.chunk()
	if err != nil {
		return err
	}
	if err := upload.Commit(q.r.Context(), h, chunk, q.r.Body); err != nil {
		return err
	}
	q.blobCreated(h.String())
	return nil
}

func (q *request) cancelUpload() error {
	upload, err := q.upload()
	if err != nil {
		return err
	}
	if err := upload.Cancel(q.r.Context()); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (q *request) upload() (*Upload, error) {
	repo, err := q.store.Writer(q.id, q.name)
	if err != nil {
		return nil, err
	}
	return repo.Upload(q.ref)
}

// chunk reads where the body belongs. Clients write "first-last"; the form of
// HTTP, "bytes first-last/total", is understood too.
func (q *request) chunk() (Chunk, error) {
	header := q.r.Header.Get("Content-Range")
	if header == "" {
		return Chunk{}, nil
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	first, last, _ := strings.Cut(text, "-")
	a, errA := strconv.ParseInt(first, 10, 64)
	b, errB := strconv.ParseInt(last, 10, 64)
	if errA != nil || errB != nil || a < 0 || b < a-1 {
		return Chunk{}, refuse(CodeBlobUploadInvalid, "%q is not a range of bytes", clip(header))
	}
	if n := q.r.ContentLength; n >= 0 && n != b-a+1 {
		return Chunk{}, refuse(CodeSizeInvalid, "the range has %d bytes, the request %d", b-a+1, n)
	}
	return Chunk{Given: true, First: a, Last: b}, nil
}

// acceptUpload sets where the upload goes on. An upload without bytes has the
// range "0-0", since the header can't say that nothing is there.
func (q *request) acceptUpload(upload *Upload, n int64) {
	header := q.w.Header()
	header.Set("Location", "/v2/"+q.name+"/blobs/uploads/"+upload.ID)
	header.Set("Docker-Upload-UUID", upload.ID)
	header.Set("Range", fmt.Sprintf("0-%d", max(n-1, 0)))
}

func (q *request) blobCreated(digest string) {
	q.w.Header().Set("Location", "/v2/"+q.name+"/blobs/"+digest)
	q.w.Header().Set("Docker-Content-Digest", digest)
	q.w.WriteHeader(http.StatusCreated)
}
