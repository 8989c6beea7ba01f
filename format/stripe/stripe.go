// SPDX-License-Identifier: Apache-2.0

// Package stripe says what the zone cache's servers hold: a sealed chunk cut
// into data stripes and one parity stripe, each with a header that tells what it
// is. Any of them but one give the chunk back. The page is docs/format/stripe.md.
//
// A stripe proves nothing: whoever joins stripes verifies the chunk by its name.
package stripe

import (
	"encoding/binary"

	"github.com/klauspost/reedsolomon"

	"thaw.dev/thaw"
)

const (
	// HeaderBytes is the length of the header before a stripe's bytes.
	HeaderBytes = 8

	// MaxChunkBytes bounds the sealed chunk that a header may speak of, so that
	// a reader can make room before it has verified anything. Sealing adds less
	// than a kilobyte to a chunk.
	MaxChunkBytes = thaw.MaxChunkBytes + 4096

	version   = 1
	maxData   = 16
	maxParity = 1
)

// Layout says into how many stripes a chunk is cut.
type Layout struct {
	Data   int // 1 to 16
	Parity int // 0 or 1
}

// Stripes is the number of all stripes.
func (l Layout) Stripes() int { return l.Data + l.Parity }

// StripeBytes is the length of each stripe of a chunk, without its header.
func (l Layout) StripeBytes(chunkBytes int) int { return (chunkBytes + l.Data - 1) / l.Data }

func (l Layout) valid() bool {
	return l.Data >= 1 && l.Data <= maxData && l.Parity >= 0 && l.Parity <= maxParity
}

// Header tells what a stripe is.
type Header struct {
	Layout
	Index      int // data stripes in order, then the parity
	ChunkBytes int // of the sealed chunk, 1 to MaxChunkBytes
}

// Append appends the header's bytes to b.
func (h Header) Append(b []byte) []byte {
	b = append(b, version, byte(h.Data), byte(h.Parity), byte(h.Index))
	return binary.BigEndian.AppendUint32(b, uint32(h.ChunkBytes))
}

// ParseHeader reads the header of a value of valueBytes bytes, of which b holds
// the first HeaderBytes or more. Anything but a header that [Header.Append] made
// for a value of that length is [thaw.Corrupt].
func ParseHeader(b []byte, valueBytes int) (Header, error) {
	const op = "stripe: parse"
	if len(b) < HeaderBytes || valueBytes < HeaderBytes {
		return Header{}, thaw.Errorf(op, thaw.Corrupt, "%d bytes are too few for a header", min(len(b), valueBytes))
	}
	if b[0] != version {
		return Header{}, thaw.Errorf(op, thaw.Corrupt, "version %d is unknown", b[0])
	}
	h := Header{Layout: Layout{Data: int(b[1]), Parity: int(b[2])}, Index: int(b[3])}
	length := binary.BigEndian.Uint32(b[4:])
	switch {
	case !h.valid():
		return Header{}, thaw.Errorf(op, thaw.Corrupt, "no layout has %d data and %d parity stripes", h.Data, h.Parity)
	case h.Index >= h.Stripes():
		return Header{}, thaw.Errorf(op, thaw.Corrupt, "stripe %d of %d", h.Index, h.Stripes())
	case length == 0 || length > MaxChunkBytes:
		return Header{}, thaw.Errorf(op, thaw.Corrupt, "no chunk has %d bytes", length)
	}
	h.ChunkBytes = int(length)
	if want := HeaderBytes + h.StripeBytes(h.ChunkBytes); valueBytes != want {
		return Header{}, thaw.Errorf(op, thaw.Corrupt, "%d bytes instead of %d", valueBytes, want)
	}
	return h, nil
}

// Coder cuts and joins by one layout. It is immutable and safe for concurrent
// use.
type Coder struct {
	layout Layout
	xor    reedsolomon.Encoder // nil without parity
}

// NewCoder returns a coder; a layout that is out of bounds is [thaw.Invalid].
func NewCoder(l Layout) (*Coder, error) {
	if !l.valid() {
		return nil, thaw.Errorf("stripe", thaw.Invalid, "no layout has %d data and %d parity stripes", l.Data, l.Parity)
	}
	c := &Coder{layout: l}
	if l.Parity == 0 {
		return c, nil
	}
	// A stripe is XORed in about 10 µs: a second goroutine would cost more.
	var err error
	c.xor, err = reedsolomon.New(l.Data, l.Parity, reedsolomon.WithFastOneParityMatrix(), reedsolomon.WithMaxGoroutines(1))
	return c, thaw.Wrap("stripe", err)
}

// Layout is what the coder was made for.
func (c *Coder) Layout() Layout { return c.layout }

// Split returns the stripes of a sealed chunk, without headers and by index.
// Data stripes may share sealed's memory; nobody may modify them. A chunk that is
// empty or longer than MaxChunkBytes is [thaw.Invalid].
func (c *Coder) Split(sealed thaw.SealedChunk) ([][]byte, error) {
	const op = "stripe: split"
	if len(sealed) == 0 || len(sealed) > MaxChunkBytes {
		return nil, thaw.Errorf(op, thaw.Invalid, "no chunk has %d bytes", len(sealed))
	}
	n := c.layout.StripeBytes(len(sealed))
	stripes := make([][]byte, c.layout.Stripes())
	for i := range stripes {
		from, to := min(i*n, len(sealed)), min((i+1)*n, len(sealed))
		if i < c.layout.Data && to-from == n {
			stripes[i] = sealed[from:to:to]
			continue
		}
		stripes[i] = make([]byte, n) // the parity, or a data stripe with zeros at its end
		if i < c.layout.Data {
			copy(stripes[i], sealed[from:to])
		}
	}
	if c.xor == nil {
		return stripes, nil
	}
	return stripes, thaw.Wrap(op, c.xor.Encode(stripes))
}

// Restore makes the data stripe of that index from the others and the parity.
// data holds all data stripes one after the other; what stands in the place of
// the missing one does not matter. The layout must have a parity stripe.
func (c *Coder) Restore(data []byte, missing int, parity []byte) error {
	const op = "stripe: restore"
	n := len(parity)
	if c.xor == nil || n*c.layout.Data != len(data) || missing < 0 || missing >= c.layout.Data {
		return thaw.Errorf(op, thaw.Invalid, "stripe %d of %d bytes by a parity of %d", missing, len(data), n)
	}
	// The XOR of all stripes, parity included, is zero: so each is that of the
	// others, and the missing one is computed as the parity was.
	shards := make([][]byte, 0, c.layout.Stripes())
	for i := range c.layout.Data {
		if i != missing {
			shards = append(shards, data[i*n:(i+1)*n])
		}
	}
	shards = append(shards, parity, data[missing*n:(missing+1)*n])
	return thaw.Wrap(op, c.xor.Encode(shards))
}
