// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"thaw.dev/thaw"
)

const (
	// packVersion is the first byte of every packed chunk.
	packVersion = 1

	// MaxPackedBytes bounds what Pack makes of MaxChunkBytes: the version byte,
	// at most three bytes of header for a block, which then has elided at least
	// one byte, and the pages.
	MaxPackedBytes = 1 + 2*MaxBlocks + thaw.MaxChunkBytes
)

// Pack appends the packed form of pages to dst and returns it: a header that
// says how many bytes of each block are left once its trailing zeros are
// dropped, then those bytes. A file's last block is mostly zeros, so this is
// what makes 4 KiB alignment cost no storage. There is exactly one packed form
// of given pages. pages is not modified; its length must be a multiple of
// [thaw.BlockBytes] and at most [thaw.MaxChunkBytes], or Pack panics, since
// only a wrong caller can do that.
func Pack(dst, pages []byte) []byte {
	if len(pages)%thaw.BlockBytes != 0 || len(pages) > thaw.MaxChunkBytes {
		panic("chunk: Pack of something that is not a chunk's pages")
	}
	var used [MaxBlocks]uint16 // bytes of each block up to its last non-zero one
	blocks := len(pages) / thaw.BlockBytes
	for i := range blocks {
		used[i] = uint16(usedBytes(pages[i*thaw.BlockBytes:][:thaw.BlockBytes]))
	}
	dst = slices.Grow(dst, 1+2*MaxBlocks+len(pages))
	dst = append(dst, packVersion)
	dst = appendHeader(dst, used[:blocks])
	for i := 0; i < blocks; {
		run := fullRun(used[i:blocks])
		start, end := i*thaw.BlockBytes, (i+run)*thaw.BlockBytes
		if i += run; i < blocks {
			end += int(used[i])
			i++
		}
		dst = append(dst, pages[start:end]...)
	}
	return dst
}

// appendHeader writes the runs: the number of full blocks and, unless the
// chunk ends with them, the bytes of the block that follows.
func appendHeader(dst []byte, used []uint16) []byte {
	for len(used) > 0 {
		run := fullRun(used)
		dst = binary.AppendUvarint(dst, uint64(run))
		used = used[run:]
		if len(used) > 0 {
			dst = binary.AppendUvarint(dst, uint64(used[0]))
			used = used[1:]
		}
	}
	return dst
}

func fullRun(used []uint16) int {
	for i, n := range used {
		if n != thaw.BlockBytes {
			return i
		}
	}
	return len(used)
}

// usedBytes returns the length of block without its trailing zeros.
func usedBytes(block []byte) int {
	n := len(block)
	for ; n >= 8; n -= 8 {
		if word := binary.LittleEndian.Uint64(block[n-8:]); word != 0 {
			return n - bits.LeadingZeros64(word)/8
		}
	}
	for n > 0 && block[n-1] == 0 {
		n--
	}
	return n
}

// Unpack appends the plainBytes bytes of pages that packed was made from to
// dst and returns it. Anything but the one packed form of plainBytes bytes is
// [thaw.Corrupt], and dst is then returned as it was. plainBytes must come
// from a trusted table; a number that no chunk has is [thaw.Corrupt] too.
// packed is not modified, and dst must not overlap it.
func Unpack(dst, packed []byte, plainBytes int) ([]byte, error) {
	if plainBytes < 0 || plainBytes > thaw.MaxChunkBytes || plainBytes%thaw.BlockBytes != 0 {
		return dst, corrupt("%d is not a number of bytes that a chunk has", plainBytes)
	}
	if len(packed) == 0 || packed[0] != packVersion {
		return dst, corrupt("the version byte is not %d", packVersion)
	}
	var used [MaxBlocks]uint16
	blocks := plainBytes / thaw.BlockBytes
	body, err := readHeader(used[:blocks], packed[1:])
	if err != nil {
		return dst, err
	}
	out := slices.Grow(dst, plainBytes)
	for i := 0; i < blocks; {
		if run := fullRun(used[i:blocks]); run > 0 {
			out = append(out, body[:run*thaw.BlockBytes]...)
			body = body[run*thaw.BlockBytes:]
			i += run
			continue
		}
		n := int(used[i])
		out = append(out, body[:n]...)
		out = appendZeros(out, thaw.BlockBytes-n)
		body = body[n:]
		i++
	}
	return out, nil
}

// readHeader fills used from the header, returns the bytes that follow it, and
// checks that they are as many as the header says and that no block could
// have been written shorter.
func readHeader(used []uint16, header []byte) ([]byte, error) {
	total := 0
	for i := 0; i < len(used); {
		run, n := minimalUvarint(header)
		if n == 0 || run > uint64(len(used)-i) {
			return nil, corrupt("the header has no valid run of full blocks at block %d", i)
		}
		header = header[n:]
		for range run {
			used[i] = thaw.BlockBytes
			i++
		}
		total += int(run) * thaw.BlockBytes
		if i == len(used) {
			break
		}
		part, n := minimalUvarint(header)
		if n == 0 || part >= thaw.BlockBytes {
			return nil, corrupt("the header has no valid length of block %d", i)
		}
		header = header[n:]
		used[i] = uint16(part)
		i++
		total += int(part)
	}
	if len(header) != total {
		return nil, corrupt("%d bytes follow the header, which promises %d", len(header), total)
	}
	end := 0
	for i, n := range used {
		end += int(n)
		if n > 0 && header[end-1] == 0 {
			return nil, corrupt("block %d ends with a zero that packing would have dropped", i)
		}
	}
	return header, nil
}

// minimalUvarint reads a number in its shortest form; the length 0 means that
// there is none.
func minimalUvarint(b []byte) (value uint64, length int) {
	value, length = binary.Uvarint(b)
	if length <= 0 || length > 1 && b[length-1] == 0 {
		return 0, 0
	}
	return value, length
}

func appendZeros(dst []byte, n int) []byte {
	start := len(dst)
	dst = dst[:start+n] // the capacity was grown by the caller
	clear(dst[start:])
	return dst
}

func corrupt(format string, args ...any) error {
	return thaw.Errorf("chunk: unpack", thaw.Corrupt, format, args...)
}
