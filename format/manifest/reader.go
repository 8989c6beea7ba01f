// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"sort"

	"thaw.dev/thaw"
)

// Reader reads one manifest, page by page as wanted. It is safe for concurrent
// use, holds no resource that needs closing, and remembers a bounded number of
// pages (about 1.5 MB at most). Every error is the source's, or
// [thaw.Corrupt] where the manifest is not what its id says, or [thaw.Invalid]
// where the argument is outside the image.
type Reader struct {
	src    Source
	head   Head
	layout layout
	cipher Cipher // nil: names only
	root   *page
	pages  pageCache
}

// Open reads the head and the root of the index of manifest id, whatever the
// size of the image, usually in one request to src.
//
// unwrap returns the cipher for the head's WrappedKey; its error is returned
// with its kind kept, and a cipher that does not fit the manifest is
// [thaw.Denied]. With a nil unwrap the manifest opens without any key: chunks
// then have zero keys, for those who only want names. A manifest that isn't
// what id says, or not a manifest, is [thaw.Corrupt].
func Open(ctx context.Context, src Source, id thaw.ImageID, unwrap func(context.Context, Head) (Cipher, error)) (*Reader, error) {
	r, err := open(ctx, src, id, unwrap)
	if err != nil {
		return nil, thaw.Wrap("open image "+id.String(), err)
	}
	return r, nil
}

func open(ctx context.Context, src Source, id thaw.ImageID, unwrap func(context.Context, Head) (Cipher, error)) (*Reader, error) {
	front, err := src.ReadAt(ctx, 0, firstReadBytes)
	if err != nil {
		return nil, err
	}
	n, err := headLength(front)
	if err != nil {
		return nil, err
	}
	if len(front) < n {
		return nil, corrupt("it ends within its head")
	}
	raw := front[:n]
	if sha256.Sum256(raw) != id {
		return nil, corrupt("its head does not have the hash that its id says")
	}
	h, err := parseHead(raw)
	if err != nil {
		return nil, err
	}
	r := &Reader{src: src, head: h.Head, layout: newLayout(h.Chunks, int64(n))}
	if unwrap != nil {
		if r.cipher, err = openCipher(ctx, h, unwrap); err != nil {
			return nil, err
		}
	}
	root := r.layout.root()
	r.root, err = r.decode(root, child{
		hash: h.rootHash,
		span: span{0, uint32(h.ImageBytes / thaw.BlockBytes)},
	}, front[n:min(len(front), n+r.layout.bytes(root))])
	if err != nil {
		return nil, err
	}
	return r, nil
}

// openCipher gets the cipher and proves that it is the one of this manifest,
// before any page is believed to have been written by its owner.
func openCipher(ctx context.Context, h *parsedHead, unwrap func(context.Context, Head) (Cipher, error)) (Cipher, error) {
	c, err := unwrap(ctx, h.Head)
	if err != nil {
		return nil, thaw.Wrap("unwrap the data key", err)
	}
	at := len(h.raw) - keyCheckBytes
	if _, err := c.Open(headNumber, h.raw[at:], h.raw[:at]); err != nil {
		return nil, thaw.Errorf("unwrap the data key", thaw.Denied, "the key is not the one of this manifest")
	}
	return c, nil
}

// Head returns what the manifest says of the whole image. The caller must not
// modify its slices.
func (r *Reader) Head() Head { return r.head }

// Len returns the number of chunks.
func (r *Reader) Len() int { return r.head.Chunks }

// At returns chunk i, counted from 0 in the order of the address space.
func (r *Reader) At(ctx context.Context, i int) (Chunk, error) {
	if i < 0 || i >= r.head.Chunks {
		return Chunk{}, thaw.Errorf("manifest", thaw.Invalid, "there is no chunk %d of %d", i, r.head.Chunks)
	}
	leaf, err := r.leaf(ctx, i/PageChunks, true)
	if err != nil {
		return Chunk{}, err
	}
	return leaf.chunks[i%PageChunks], nil
}

// ByBlock returns the chunk that holds a block of the image, and its number as
// At counts.
func (r *Reader) ByBlock(ctx context.Context, block uint32) (Chunk, int, error) {
	p, number := r.root, 0
	if block >= p.end {
		return Chunk{}, 0, thaw.Errorf("manifest", thaw.Invalid, "block %d is past the image's %d blocks", block, p.end)
	}
	for level := r.layout.root().level; level > 0; level-- {
		i := sort.Search(len(p.children), func(i int) bool { return p.children[i].first > block }) - 1
		number = number*PageChunks + i
		var err error
		if p, err = r.page(ctx, pageID{level - 1, uint32(number)}, p.children[i], true); err != nil {
			return Chunk{}, 0, err
		}
	}
	i := sort.Search(len(p.chunks), func(i int) bool { return p.chunks[i].Block > block }) - 1
	return p.chunks[i], number*PageChunks + i, nil
}

// All yields every chunk in order, or an error, which is the last thing it
// yields. It does not push out the pages that other calls remember.
func (r *Reader) All(ctx context.Context) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		for number := range int(r.layout.pages[0]) {
			leaf, err := r.leaf(ctx, number, false)
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			for _, c := range leaf.chunks {
				if !yield(c, nil) {
					return
				}
			}
		}
	}
}

// Names yields the name of every stored chunk in order, some more than once if
// the image has equal chunks, or an error, which is the last thing it yields.
func (r *Reader) Names(ctx context.Context) iter.Seq2[thaw.ChunkName, error] {
	return func(yield func(thaw.ChunkName, error) bool) {
		for c, err := range r.All(ctx) {
			if err == nil && c.Name.IsZero() {
				continue
			}
			if !yield(c.Name, err) {
				return
			}
		}
	}
}

// Check reads the whole manifest and reports the first thing wrong with it,
// bytes after its end included, which nothing else looks at.
func (r *Reader) Check(ctx context.Context) error {
	for _, err := range r.All(ctx) {
		if err != nil {
			return err
		}
	}
	after, err := r.src.ReadAt(ctx, r.layout.end, 1)
	if err == nil && len(after) > 0 {
		err = corrupt("it goes on after its last page")
	}
	return err
}

// leaf finds a leaf page by its number.
func (r *Reader) leaf(ctx context.Context, number int, keep bool) (*page, error) {
	p := r.root
	for level := int(r.layout.root().level) - 1; level >= 0; level-- {
		n := number
		for range level {
			n /= PageChunks
		}
		var err error
		p, err = r.page(ctx, pageID{uint8(level), uint32(n)}, p.children[n%PageChunks], keep || level > 0)
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// page returns the page below an index page that the index describes as want.
func (r *Reader) page(ctx context.Context, id pageID, want child, keep bool) (*page, error) {
	return r.pages.get(ctx, id, keep, func() (*page, error) {
		raw, err := r.src.ReadAt(ctx, r.layout.offset(id), r.layout.bytes(id))
		if err != nil {
			return nil, thaw.Wrap("read manifest", err)
		}
		return r.decode(id, want, raw)
	})
}

// page is a page that was checked against its hash and for sense.
type page struct {
	span
	chunks   []Chunk // of a leaf
	children []child // of an index page
}

func (r *Reader) decode(id pageID, want child, raw []byte) (*page, error) {
	if len(raw) != r.layout.bytes(id) {
		return nil, corrupt("page %d of level %d is cut short", id.number, id.level)
	}
	if sha256.Sum256(raw) != want.hash {
		return nil, corrupt("page %d of level %d does not have the hash that the index says", id.number, id.level)
	}
	count := r.layout.count(id)
	if head := appendPageHead(nil, id, count, want.span); string(head) != string(raw[:pageHeadBytes]) {
		return nil, corrupt("page %d of level %d is another page than the index says", id.number, id.level)
	}
	p := &page{span: want.span}
	if id.level > 0 {
		return p, p.decodeNode(raw[pageHeadBytes:], count)
	}
	return p, r.decodeLeaf(p, id.number, raw)
}

func (p *page) decodeNode(entries []byte, count int) error {
	p.children = make([]child, count)
	for i := range p.children {
		e := entries[i*nodeEntryBytes:][:nodeEntryBytes]
		c := &p.children[i]
		copy(c.hash[:], e)
		c.first, c.end = binary.BigEndian.Uint32(e[sha256.Size:]), p.end
		if i > 0 {
			p.children[i-1].end = c.first
		}
	}
	if p.children[0].first != p.first {
		return corrupt("an index page does not begin where it says")
	}
	for _, c := range p.children {
		if c.first >= c.end {
			return corrupt("the pages of an index page are not in order")
		}
	}
	return nil
}

func (r *Reader) decodeLeaf(p *page, number uint32, raw []byte) error {
	count := r.layout.count(pageID{number: number})
	clear := pageHeadBytes + count*leafEntryBytes
	var keys []byte
	if r.cipher != nil {
		var err error
		if keys, err = r.cipher.Open(uint64(number)+1, raw[clear:], raw[:clear]); err != nil {
			return corrupt("the keys of page %d do not open", number)
		}
		if len(keys) != count*leafKeyBytes {
			return corrupt("page %d has other than %d keys", number, count)
		}
	}
	p.chunks = make([]Chunk, count)
	block := uint64(p.first)
	for i := range p.chunks {
		c := &p.chunks[i]
		decodeChunk(c, raw[pageHeadBytes+i*leafEntryBytes:][:leafEntryBytes])
		c.Block = uint32(block)
		if keys != nil {
			copy(c.Key[:], keys[i*leafKeyBytes:])
		}
		if why := checkStored(*c, len(r.head.Domains), raw[pageHeadBytes+(i+1)*leafEntryBytes-1]); why != "" {
			return corrupt("chunk %d: %s", int(number)*PageChunks+i, why)
		}
		block += uint64(c.Blocks)
	}
	if block != uint64(p.end) {
		return corrupt("the chunks of page %d end at block %d, not at %d", number, block, p.end)
	}
	return nil
}

func decodeChunk(c *Chunk, e []byte) {
	copy(c.Name[:], e)
	c.SealedBytes = binary.BigEndian.Uint32(e[32:])
	c.Blocks = uint32(binary.BigEndian.Uint16(e[36:]))
	c.Domain = e[38]
}

func checkStored(c Chunk, domains int, reserved byte) string {
	if reserved != 0 {
		return "a reserved byte is set"
	}
	if c.Name.IsZero() && c.Key != [32]byte{} {
		return "zeros have a key"
	}
	return checkChunk(c, domains)
}
