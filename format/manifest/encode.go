// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"thaw.dev/thaw"
)

// Encode returns the bytes of the manifest of an image and the image's id. The
// chunks must cover the image from block 0 to its end in order and without a
// gap. The result is a pure function of h, chunks and what c seals: the caller
// makes a fresh data key for every call, since c meets the numbers 0, 1, 2...
// each time. h.Chunks is ignored. Input that no image can have is
// [thaw.Invalid].
func Encode(h Head, chunks []Chunk, c Cipher) ([]byte, thaw.ImageID, error) {
	h.Chunks = len(chunks)
	if err := checkInput(h, chunks); err != nil {
		return nil, thaw.ImageID{}, err
	}
	headBytes := len(encodeHead(h, [sha256.Size]byte{})) + keyCheckBytes
	l := newLayout(len(chunks), int64(headBytes))
	data := make([]byte, l.end)
	children := make([]child, 0, l.pages[0])
	for number := range l.pages[0] {
		p := pageID{number: number}
		part := chunks[int(number)*PageChunks:][:l.count(p)]
		page, s := encodeLeaf(p, part, c)
		copy(data[l.offset(p):], page)
		children = append(children, child{hash: sha256.Sum256(page), span: s})
	}
	for level := uint8(1); level <= l.root().level; level++ {
		children = encodeLevel(data, l, level, children)
	}
	head := encodeHead(h, children[0].hash)
	head = append(head, c.Seal(headNumber, nil, head)...)
	if len(head) != headBytes {
		return nil, thaw.ImageID{}, thaw.Errorf("encode manifest", thaw.Internal, "the cipher adds other than %d bytes", SealOverhead)
	}
	copy(data, head)
	return data, sha256.Sum256(head), nil
}

// child is what an index page says of a page below it.
type child struct {
	hash [sha256.Size]byte
	span
}

func encodeLeaf(p pageID, chunks []Chunk, c Cipher) ([]byte, span) {
	last := chunks[len(chunks)-1]
	s := span{first: chunks[0].Block, end: last.Block + last.Blocks}
	page := appendPageHead(make([]byte, 0, maxLeafBytes), p, len(chunks), s)
	keys := make([]byte, 0, PageChunks*leafKeyBytes)
	for _, chunk := range chunks {
		page = append(page, chunk.Name[:]...)
		page = binary.BigEndian.AppendUint32(page, chunk.SealedBytes)
		page = binary.BigEndian.AppendUint16(page, uint16(chunk.Blocks))
		page = append(page, chunk.Domain, 0)
		keys = append(keys, chunk.Key[:]...)
	}
	return append(page, c.Seal(uint64(p.number)+1, keys, page)...), s
}

// encodeLevel writes the index pages of one level and returns what the level
// above says of them.
func encodeLevel(data []byte, l layout, level uint8, below []child) []child {
	var children []child
	for number := range l.pages[level] {
		p := pageID{level, number}
		part := below[int(number)*PageChunks:][:l.count(p)]
		s := span{part[0].first, part[len(part)-1].end}
		page := appendPageHead(make([]byte, 0, maxNodeBytes), p, len(part), s)
		for _, ch := range part {
			page = append(page, ch.hash[:]...)
			page = binary.BigEndian.AppendUint32(page, ch.first)
		}
		copy(data[l.offset(p):], page)
		children = append(children, child{hash: sha256.Sum256(page), span: s})
	}
	return children
}

func checkInput(h Head, chunks []Chunk) error {
	const op = "encode manifest"
	if why := checkHead(h); why != "" {
		return thaw.Errorf(op, thaw.Invalid, "%s", why)
	}
	if len(chunks) == 0 || len(chunks) > MaxChunks {
		return thaw.Errorf(op, thaw.Invalid, "an image can't have %d chunks", len(chunks))
	}
	block := uint64(0)
	for i, c := range chunks {
		if uint64(c.Block) != block {
			return thaw.Errorf(op, thaw.Invalid, "chunk %d begins at block %d, not at %d", i, c.Block, block)
		}
		if why := checkChunk(c, len(h.Domains)); why != "" {
			return thaw.Errorf(op, thaw.Invalid, "chunk %d: %s", i, why)
		}
		if c.Name.IsZero() && c.Key != [32]byte{} {
			return thaw.Errorf(op, thaw.Invalid, "chunk %d: zeros have no key", i)
		}
		block += uint64(c.Blocks)
	}
	if int64(block)*thaw.BlockBytes != h.ImageBytes {
		return thaw.Errorf(op, thaw.Invalid, "the chunks cover %d blocks, the image has %d", block, h.ImageBytes/thaw.BlockBytes)
	}
	return nil
}

// checkChunk reports what is impossible in a chunk by itself, its key apart.
func checkChunk(c Chunk, domains int) string {
	switch {
	case c.Blocks == 0 || c.Blocks > maxBlocks:
		return fmt.Sprintf("it can't have %d blocks", c.Blocks)
	case int(c.Domain) >= domains:
		return fmt.Sprintf("domain %d is not in the head", c.Domain)
	case c.Name.IsZero() && c.SealedBytes != 0:
		return "zeros have no sealed bytes"
	case !c.Name.IsZero() && (c.SealedBytes == 0 || c.SealedBytes > MaxSealedBytes):
		return fmt.Sprintf("%d sealed bytes are impossible", c.SealedBytes)
	}
	return ""
}
