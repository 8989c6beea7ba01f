// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/spool"
)

// What the X-Amz-Content-Sha256 header may hold instead of a hash.
const (
	unsignedPayload       = "UNSIGNED-PAYLOAD"
	streamSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// payloadHash returns the last line of the canonical request. Where the request
// does not name it, that is the hash of the body, which is then taken in.
func (v *Verifier) payloadHash(r *http.Request, sig *signature) (string, error) {
	if named := r.Header.Get("X-Amz-Content-Sha256"); named != "" {
		return named, nil
	}
	if sig.presigned {
		if named := r.URL.Query().Get("X-Amz-Content-Sha256"); named != "" {
			return named, nil
		}
	}
	owner := sig.accessKeyID // which anybody may name
	if v.config.Origin != nil {
		owner += " " + v.config.Origin(r.Context())
	}
	sum := sha256.New()
	if err := v.take(r, owner, sum); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// take has the whole body taken in, for an owner.
func (v *Verifier) take(r *http.Request, owner string, sum hash.Hash) error {
	if r.ContentLength > v.config.MaxBodyBytes {
		return tooLarge(v.config.MaxBodyBytes)
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body, err := v.config.Spool.Take(owner, r.Body, v.config.MaxBodyBytes, sum)
	if err != nil {
		return bodyError(err)
	}
	r.Body = body
	return nil
}

// guardBody puts the reader in place that holds the body to what was signed.
func (v *Verifier) guardBody(r *http.Request, sig *signature, key signingKey, payload string) error {
	if _, taken := r.Body.(*spool.Body); taken {
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

// ReadBody returns the body of a verified request, in memory. The caller owns the
// result and must not read the body again.
func ReadBody(r *http.Request) ([]byte, error) {
	body, ok := r.Body.(*spool.Body)
	if !ok {
		return nil, thaw.Errorf("read body", thaw.Internal, "the request was not verified")
	}
	return body.Bytes()
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
