// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	thaw "thaw.dev/thaw"
)

const (
	// maxSignedChunk bounds the memory that one signed chunk takes, however
	// slowly it comes: it is held back until its signature has been checked.
	// SDKs send 64 to 128 KiB.
	maxSignedChunk = 256 << 10

	// maxLine bounds a chunk's header and a trailer line.
	maxLine = 1024

	// maxTrailers bounds the trailer lines of a body; SDKs send one.
	maxTrailers = 16
)

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// chain checks signatures each of which covers the one before it, so that
// chunks can't be dropped, repeated or reordered.
type chain struct {
	key   signingKey
	date  time.Time
	scope scope
	last  string
}

// accept checks the signature of the next link, whose text after the previous
// signature is rest.
func (c *chain) accept(kind, rest, signature string) error {
	text := kind + "\n" + c.date.Format(timeFormat) + "\n" + c.scope.String() + "\n" + c.last + "\n" + rest
	want, err := hex.DecodeString(signature)
	if err != nil || subtle.ConstantTimeCompare(c.key.sign([]byte(text)), want) != 1 {
		return reject(InvalidSignature, "A chunk's signature does not match the one we calculated.")
	}
	c.last = signature
	return nil
}

// chunkReader removes the framing of an aws-chunked body:
//
//	SIZE[;chunk-signature=HEX] CRLF bytes CRLF ... 0[;chunk-signature=HEX] CRLF
//	[NAME:VALUE CRLF ... [x-amz-trailer-signature:HEX CRLF]] CRLF
//
// A signed chunk's bytes are returned once its signature has been checked.
type chunkReader struct {
	body     io.Closer
	in       *bufio.Reader
	chain    *chain // nil: chunks are not signed
	trailers bool
	declared []string // names of trailers, from the signed x-amz-trailer
	left     int64    // bytes of the decoded body still to come, as promised
	sums     []checksum
	chunk    []byte // checked, not yet returned
	inChunk  int64  // bytes of an unsigned chunk still to be read
	err      error  // sticky
}

// newChunkReader also takes the framing out of r's headers.
func newChunkReader(r *http.Request, limit int64) (*chunkReader, error) {
	decoded, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || decoded < 0 {
		return nil, reject(IncompleteSignature, "A chunked payload requires the header 'x-amz-decoded-content-length'.")
	}
	if decoded > limit {
		return nil, tooLarge(limit)
	}
	c := &chunkReader{body: r.Body, in: bufio.NewReader(r.Body), left: decoded}
	for name := range strings.SplitSeq(r.Header.Get("X-Amz-Trailer"), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			c.declared = append(c.declared, name)
			if sum, ok := newChecksum(name); ok {
				c.sums = append(c.sums, sum)
			}
		}
	}
	var encodings []string
	for encoding := range strings.SplitSeq(r.Header.Get("Content-Encoding"), ",") {
		if encoding = strings.TrimSpace(encoding); encoding != "" && encoding != "aws-chunked" {
			encodings = append(encodings, encoding)
		}
	}
	r.Header.Del("Content-Encoding")
	if encodings != nil {
		r.Header.Set("Content-Encoding", strings.Join(encodings, ","))
	}
	r.ContentLength = decoded
	r.Header.Set("Content-Length", strconv.FormatInt(decoded, 10))
	return c, nil
}

// Close closes the network's body.
func (c *chunkReader) Close() error { return c.body.Close() }

// Read returns decoded bytes.
func (c *chunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.err == nil && len(c.chunk) == 0 && c.inChunk == 0 {
		c.err = c.next()
	}
	switch {
	case len(c.chunk) > 0:
		n := copy(p, c.chunk)
		c.chunk = c.chunk[n:]
		return n, nil
	case c.inChunk > 0 && c.err == nil:
		n, err := c.in.Read(p[:min(int64(len(p)), c.inChunk)])
		c.hash(p[:n])
		if c.inChunk -= int64(n); err == nil && c.inChunk == 0 {
			err = c.endLine()
		}
		c.err = unexpected(err)
		return n, nil
	}
	return 0, c.err
}

// next reads a chunk's header, and the whole chunk if it is signed. At the end
// of a good body its error is io.EOF.
func (c *chunkReader) next() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	digits, signature, signed := strings.Cut(line, ";chunk-signature=")
	size, err := strconv.ParseInt(digits, 16, 64)
	if err != nil || size < 0 || signed != (c.chain != nil) {
		return malformed("a chunk's header")
	}
	if size > c.left {
		return malformed("more bytes than x-amz-decoded-content-length")
	}
	c.left -= size
	if size == 0 {
		return c.finish(signature)
	}
	if c.chain == nil {
		c.inChunk = size
		return nil
	}
	if size > maxSignedChunk {
		return thaw.Errorf("read body", thaw.TooLarge, "a signed chunk is larger than %d bytes", maxSignedChunk)
	}
	chunk := make([]byte, size)
	if _, err := io.ReadFull(c.in, chunk); err != nil {
		return unexpected(err)
	}
	if err := c.endLine(); err != nil {
		return err
	}
	if err := c.acceptChunk(chunk, signature); err != nil {
		return err
	}
	c.hash(chunk)
	c.chunk = chunk
	return nil
}

func (c *chunkReader) acceptChunk(chunk []byte, signature string) error {
	sum := sha256.Sum256(chunk)
	return c.chain.accept(algorithm+"-PAYLOAD", emptyHash+"\n"+hex.EncodeToString(sum[:]), signature)
}

// finish reads what follows the last chunk.
func (c *chunkReader) finish(signature string) error {
	if c.left != 0 {
		return malformed("fewer bytes than x-amz-decoded-content-length")
	}
	if c.chain != nil {
		if err := c.acceptChunk(nil, signature); err != nil {
			return err
		}
	}
	if c.trailers {
		if err := c.readTrailers(); err != nil {
			return err
		}
	} else if err := c.endLine(); err != nil {
		return err
	}
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		return malformed("bytes after the end")
	}
	return io.EOF
}

// readTrailers reads up to and with the empty line, checks the signature over
// the trailers and every checksum among them.
func (c *chunkReader) readTrailers() error {
	var text strings.Builder
	var seen []string
	signature := ""
	for range maxTrailers {
		line, err := c.line()
		if err != nil {
			return err
		}
		if line == "" {
			return c.endTrailers(text.String(), signature, seen)
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok || signature != "":
			return malformed("a trailer")
		case name == "x-amz-trailer-signature":
			signature = value
			continue
		case !slices.Contains(c.declared, name) || slices.Contains(seen, name):
			return malformed("a trailer that x-amz-trailer does not name once")
		}
		seen = append(seen, name)
		text.WriteString(name + ":" + value + "\n")
		for _, sum := range c.sums {
			if sum.header == name && !sum.matches(value) {
				return thaw.Errorf("read body", thaw.Invalid, "the body does not have the checksum in its trailer %s", name)
			}
		}
	}
	return malformed("too many trailers")
}

func (c *chunkReader) endTrailers(text, signature string, seen []string) error {
	if len(seen) != len(c.declared) {
		return malformed("a trailer that x-amz-trailer names is missing")
	}
	if c.chain == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(text))
	return c.chain.accept(algorithm+"-TRAILER", hex.EncodeToString(sum[:]), signature)
}

func (c *chunkReader) hash(p []byte) {
	for _, sum := range c.sums {
		sum.hash.Write(p)
	}
}

// line reads one line without its end.
func (c *chunkReader) line() (string, error) {
	var line []byte
	for len(line) <= maxLine {
		b, err := c.in.ReadByte()
		if err != nil {
			return "", unexpected(err)
		}
		line = append(line, b)
		if rest, ok := bytes.CutSuffix(line, []byte("\r\n")); ok {
			return string(rest), nil
		}
	}
	return "", malformed("a line that does not end")
}

func (c *chunkReader) endLine() error {
	line, err := c.line()
	if err == nil && line != "" {
		return malformed("a chunk longer than its header says")
	}
	return err
}

// unexpected makes an early end an error that is not mistaken for a good one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return malformed("a body that ends early")
	}
	return err
}

func malformed(what string) error {
	return thaw.Errorf("read body", thaw.Invalid, "aws-chunked payload is malformed: %s", what)
}
