// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"context"
	"errors"
	"hash"
	"io"

	"thaw.dev/thaw"
)

// blob reads a layer as it is stored and checks that it is what was promised.
// It belongs to one goroutine.
type blob struct {
	layer  Layer
	raw    io.Reader
	hash   hash.Hash
	read   int64
	limit  int64 // no blob is longer than this
	failed error // of raw, or a blob that is too long; kept since decompressors hide it
	count  func(n int)
	ended  func() error // why the layer is no longer wanted, or nil
}

// Read implements io.Reader.
func (b *blob) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	n, err := b.raw.Read(p)
	b.hash.Write(p[:n])
	b.read += int64(n)
	b.count(n)
	switch {
	case b.layer.Bytes > 0 && b.read > b.layer.Bytes:
		b.failed = b.layer.damaged("it is longer than the %d bytes promised", b.layer.Bytes)
	case b.read > b.limit:
		b.failed = b.layer.tooLarge(b.limit)
	case err != nil && !errors.Is(err, io.EOF):
		if b.failed = b.ended(); b.failed == nil { // ended, raw is closed and says only that
			b.failed = sourceError(b.layer, err)
		}
	default:
		return n, err
	}
	return 0, b.failed
}

// verify reads what is left and reports whether the blob was what its digest
// says: also what a decompressor has no use for counts.
func (b *blob) verify() error {
	if _, err := io.Copy(io.Discard, b); err != nil {
		return err
	}
	switch {
	case b.layer.Bytes > 0 && b.read != b.layer.Bytes:
		return b.layer.damaged("it ends after %d of the %d bytes promised", b.read, b.layer.Bytes)
	case !matches(b.hash, b.layer.Digest):
		return b.layer.damaged("the %d bytes read do not have this digest", b.read)
	}
	return nil
}

// sourceError gives an error of a layer's reader a kind, if it has none.
func sourceError(l Layer, err error) error {
	op := "layer " + l.Digest
	if _, ok := errors.AsType[*thaw.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return thaw.Wrap(op, err)
	}
	return thaw.Errorf(op, thaw.Unavailable, "it can't be read: %w", err)
}

// inflate passes the uncompressed bytes of the layer to emit, in buffers that
// next returns, and ends with what verify says. A layer that does not inflate
// although it is what its digest says is [thaw.Invalid].
func (b *blob) inflate(next func() ([]byte, error), emit func([]byte) error) error {
	err := b.copy(next, emit)
	stop, stopped := errors.AsType[*stopError](err)
	if stopped {
		return stop.err
	}
	if wrong := b.verify(); wrong != nil {
		return wrong // why it did not inflate
	}
	if err != nil {
		return thaw.Errorf("layer "+b.layer.Digest, thaw.Invalid, "it does not decompress: %w", err)
	}
	return nil
}

// stopError is an error of the receiver, not of the blob.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

func (b *blob) copy(next func() ([]byte, error), emit func([]byte) error) error {
	r, closeReader, err := b.decompressor()
	if err != nil {
		return err
	}
	defer closeReader()
	for {
		buf, err := next()
		if err != nil {
			return &stopError{err}
		}
		n, err := io.ReadFull(r, buf)
		if sent := emit(buf[:n]); sent != nil {
			return &stopError{sent}
		}
		switch {
		case errors.Is(err, errCut):
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// decompressor returns the reader that the first bytes of the blob ask for.
func (b *blob) decompressor() (io.Reader, func(), error) {
	none := func() {}
	if b.layer.isPlain() {
		return b, none, nil
	}
	br := bufio.NewReaderSize(b, 256<<10)
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, none, err
	}
	return decompress(br, string(magic))
}
