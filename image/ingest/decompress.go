// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// errCut is a compressed stream that ends within itself. It is told apart from
// io.ErrUnexpectedEOF, with which io.ReadFull reports a good end.
var errCut = errors.New("it is cut short")

// maxWindow bounds the memory of a zstd stream: the largest window that the
// zstd tool makes without being asked to waste the reader's memory.
const maxWindow = 128 << 20

// decompress returns a reader of what br holds, compressed as its first bytes
// say, and what to call when it is no longer used.
func decompress(br *bufio.Reader, magic string) (io.Reader, func(), error) {
	none := func() {}
	switch {
	case strings.HasPrefix(magic, "\x1f\x8b"):
		r, err := newMembers(br)
		return r, none, err
	case magic == "\x28\xb5\x2f\xfd" || len(magic) == 4 && magic[0]&0xf0 == 0x50 && magic[1:] == "\x2a\x4d\x18":
		r, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, none, err
		}
		return cutReader{r}, r.Close, nil
	case strings.HasPrefix(magic, "BZh"):
		return nil, none, errors.New("it is compressed with bzip2: layers may be tar, tar+gzip or tar+zstd")
	case magic == "\xfd7zX":
		return nil, none, errors.New("it is compressed with xz: layers may be tar, tar+gzip or tar+zstd")
	}
	return cutReader{br}, none, nil
}

// cutReader makes errCut of io.ErrUnexpectedEOF.
type cutReader struct{ r io.Reader }

func (c cutReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCut
	}
	return n, err
}

// members reads the members of a gzip file one after another, as parallel
// compressors write them. What follows the last member and does not begin like
// another, such as the zeros that some tools pad with, is not the layer's
// content and is left alone, as gzip does.
type members struct {
	br   *bufio.Reader
	gzip *gzip.Reader
}

func newMembers(br *bufio.Reader) (*members, error) {
	r, err := gzip.NewReader(br)
	if err != nil {
		return nil, err
	}
	r.Multistream(false)
	return &members{br: br, gzip: r}, nil
}

// Read implements io.Reader.
func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := cutReader{m.gzip}.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			if errors.Is(err, io.EOF) {
				err = nil // asked again, it says so again
			}
			return n, err
		}
		magic, err := m.br.Peek(2)
		if string(magic) != "\x1f\x8b" {
			if err == nil || errors.Is(err, io.EOF) {
				return 0, io.EOF
			}
			return 0, err
		}
		if err := m.gzip.Reset(m.br); err != nil {
			return 0, err
		}
		m.gzip.Multistream(false)
	}
}
