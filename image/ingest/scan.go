// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/flatten"
)

// scanned is what is left of a layer after it was read.
type scanned struct {
	held  []int64          // by ordinal: where in the hold a small file is, or notHeld
	large map[int][]sealed // by ordinal: the chunks of a large file, each of MaxChunkBytes but the last
}

const notHeld = -1

// scanLayers reads every layer once, the top one first: then it is known from
// the names of the layers above which files are likely not part of the image,
// and nothing is sealed or held for them. It goes layer by layer since that
// makes the choice, and so the set of stored chunks, the same every time; one
// layer keeps two processors busy, see docs/image-path.md.
func (g *ingest) scanLayers(ctx context.Context) ([]*flatten.Layer, error) {
	g.scanned = make([]scanned, len(g.layers))
	lists := make([]*flatten.Layer, len(g.layers))
	var shadow flatten.Shadow
	entries := flatten.DefaultMaxEntries
	for i := len(g.layers) - 1; i >= 0; i-- {
		s := layerScan{ingest: g, index: i, shadow: &shadow, domain: g.layerDomain(i), out: &g.scanned[i]}
		l, err := g.readLayer(ctx, i, flatten.ScanOptions{
			MaxEntries: max(entries, 1),
			Budget:     g.budget,
			File:       func(f flatten.FileHeader, r io.Reader) error { return s.file(ctx, f, r) },
		})
		if err != nil {
			return nil, err
		}
		lists[i] = l
		entries -= l.Entries()
		if i > 0 {
			shadow.Add(l)
		}
	}
	return lists, nil
}

// readLayer reads layer i from front to back and verifies it.
func (g *ingest) readLayer(ctx context.Context, i int, o flatten.ScanOptions) (*flatten.Layer, error) {
	o.Name = g.layers[i].Digest
	limit := g.options.MaxBytes
	maxPlain := limit
	if !g.rereading {
		maxPlain -= g.plain
	}
	s, err := openStream(ctx, g.layers[i], streamOptions{
		maxBlob:  limit + limit/64 + 1<<20, // what can't be compressed grows a little
		maxPlain: maxPlain,
		limit:    limit,
		count:    func(n int) { g.counters.read.Add(int64(n)) },
	})
	if err != nil {
		return nil, err
	}
	defer s.close()
	var file flatten.FileHeader // the last one that was begun
	take := o.File
	o.File = func(f flatten.FileHeader, r io.Reader) error {
		file = f
		return take(f, r)
	}
	l, err := flatten.Scan(ctx, s, o)
	if _, over := errors.AsType[*flatten.BudgetError](err); !over && thaw.KindOf(err) == thaw.TooLarge && file.Name != "" {
		err = fmt.Errorf("%w: entry %.300q of %d bytes goes beyond it", err, file.Name, file.Size)
	}
	if err := s.finish(err); err != nil {
		return nil, err
	}
	if !g.rereading {
		g.plain += s.size
	}
	return l, nil
}

// layerScan takes the files of one layer as they pass.
type layerScan struct {
	*ingest
	index  int // of the layer
	shadow *flatten.Shadow
	domain uint8
	out    *scanned
}

func (s *layerScan) file(ctx context.Context, f flatten.FileHeader, r io.Reader) error {
	// Counted apart from the layer's bytes: holes take none of those.
	if f.Size > s.options.MaxBytes-s.files {
		return s.layers[s.index].tooLarge(s.options.MaxBytes)
	}
	s.files += f.Size
	s.out.held = append(s.out.held, notHeld)
	if s.shadow.Hides(f.Name) {
		return nil
	}
	if f.Size >= thaw.MaxChunkBytes {
		chunks := make([]sealed, chunksOf(f.Size))
		if s.out.large == nil {
			s.out.large = make(map[int][]sealed)
		}
		s.out.large[f.Ordinal] = chunks
		return s.sealFile(ctx, r, f.Size, s.domain, chunks)
	}
	if !s.hold.room(f.Size) {
		return nil
	}
	s.out.held[f.Ordinal] = s.hold.size
	return s.holdFile(r, f.Size)
}

func (g *ingest) holdFile(r io.Reader, size int64) error {
	for size > 0 {
		p, err := g.hold.space(size)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(r, p); err != nil {
			return err
		}
		size -= int64(len(p))
	}
	return nil
}

// chunksOf returns the number of chunks of a large file; as chunk.Lay cuts it.
func chunksOf(size int64) int64 { return (size + thaw.MaxChunkBytes - 1) / thaw.MaxChunkBytes }

// sealFile has the chunks of a large file sealed as its bytes arrive.
func (g *ingest) sealFile(ctx context.Context, r io.Reader, size int64, domain uint8, to []sealed) error {
	for i := range to {
		n := int(min(size-int64(i)*thaw.MaxChunkBytes, thaw.MaxChunkBytes))
		pages, err := g.sealer.buffer(ctx, blocksOf(int64(n)))
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(r, pages[:n]); err != nil {
			g.sealer.giveBack(pages)
			return err
		}
		clear(pages[n:])
		g.sealer.submit(job{pages: pages, domain: domain, to: &to[i]})
	}
	return nil
}

func blocksOf(size int64) uint32 {
	return uint32((size + thaw.BlockBytes - 1) / thaw.BlockBytes)
}
