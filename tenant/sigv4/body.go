// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"

	thaw "thaw.dev/thaw"
)

// What the X-Amz-Content-Sha256 header may hold instead of a hash.
const (
	unsignedPayload       = "UNSIGNED-PAYLOAD"
	streamSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// payloadHash returns the last line of the canonical request. Where the request
// does not name it, that is the hash of the body, which is then read into
// memory.
func (v *Verifier) payloadHash(r *http.Request, sig *signature) (string, error) {
	if named := r.Header.Get("X-Amz-Content-Sha256"); named != "" {
		return named, nil
	}
	if sig.presigned {
		if named := r.URL.Query().Get("X-Amz-Content-Sha256"); named != "" {
			return named, nil
		}
	}
	data, err := readAll(r.Body, r.ContentLength, v.config.MaxBodyBytes)
	if err != nil {
		return "", err
	}
	r.Body = &buffered{Reader: bytes.NewReader(data), data: data}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// guardBody puts the reader in place that holds the body to what was signed.
func (v *Verifier) guardBody(r *http.Request, sig *signature, key signingKey, payload string) error {
	if _, read := r.Body.(*buffered); read {
		return nil
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	switch payload {
	case unsignedPayload:
		r.Body = &limited{body: r.Body, left: v.config.MaxBodyBytes}
	case streamSigned, streamSignedTrailer, streamUnsignedTrailer:
		chunks, err := newChunkReader(r, v.config.MaxBodyBytes)
		if err != nil {
			return err
		}
		chunks.trailers = payload != streamSigned
		if payload != streamUnsignedTrailer {
			chunks.chain = &chain{key: key, date: sig.date, scope: sig.scope, last: sig.signature}
		}
		r.Body = chunks
	default:
		want, err := hex.DecodeString(payload)
		if err != nil || len(want) != sha256.Size {
			return reject(InvalidSignature, "The value of 'x-amz-content-sha256' is not supported: '%s'.", clip(payload))
		}
		r.Body = &hashed{limited: limited{body: r.Body, left: v.config.MaxBodyBytes}, hash: sha256.New(), want: want}
	}
	return nil
}

// buffered is a body that was read and checked already.
type buffered struct {
	*bytes.Reader
	data []byte
}

// Close does nothing: the network's body is at its end.
func (b *buffered) Close() error { return nil }

// ReadBody reads the body of a verified request to its end, so that all of it
// is authentic. The caller owns the result and must not read the body again.
// Errors: [thaw.Denied] with a [Rejection], [thaw.TooLarge], [thaw.Invalid]
// for a malformed body, [thaw.Canceled] where the sender went away.
func ReadBody(r *http.Request) ([]byte, error) {
	if b, ok := r.Body.(*buffered); ok {
		return b.data, nil
	}
	const noLimit = 1<<63 - 1 // the reader in place has one
	return readAll(r.Body, r.ContentLength, noLimit)
}

// readAll reads up to limit bytes; announced is the length that the sender
// named, or -1, and only saves growing.
func readAll(body io.Reader, announced, limit int64) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	if announced > limit {
		return nil, tooLarge(limit)
	}
	const trust = 1 << 20 // memory to give before the bytes are there
	size := min(max(announced, 0), trust)
	data := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	n, err := data.ReadFrom(io.LimitReader(body, limit))
	if err == nil && n == limit {
		// One more byte tells a body of just the limit from a longer one.
		if extra, _ := body.Read(make([]byte, 1)); extra > 0 {
			return nil, tooLarge(limit)
		}
	}
	if err != nil {
		return nil, bodyError(err)
	}
	return data.Bytes(), nil
}

// bodyError keeps the kinds that are known and takes the rest for what it is:
// the connection ended within the body.
func bodyError(err error) error {
	if _, ok := errors.AsType[*thaw.Error](err); ok {
		return err
	}
	return &thaw.Error{Op: "read body", Kind: thaw.Canceled, Err: err}
}

func tooLarge(limit int64) error {
	return thaw.Errorf("read body", thaw.TooLarge, "the body is larger than %d bytes", limit)
}

// limited refuses to read past a number of bytes.
type limited struct {
	body io.ReadCloser
	left int64
}

// Read returns [thaw.TooLarge] where there is more than the limit.
func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.body.Read(p)
	if int64(n) > l.left {
		return 0, thaw.Errorf("read body", thaw.TooLarge, "the body is larger than the limit")
	}
	l.left -= int64(n)
	return n, err
}

// Close closes the network's body.
func (l *limited) Close() error { return l.body.Close() }

// hashed returns [io.EOF] only if the bytes before it have the promised hash.
type hashed struct {
	limited
	hash hash.Hash
	want []byte
}

// Read hashes what it returns.
func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.limited.Read(p)
	h.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && subtle.ConstantTimeCompare(h.hash.Sum(nil), h.want) != 1 {
		return n, reject(InvalidSignature, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return n, err
}
