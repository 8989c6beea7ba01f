// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"io"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/flatten"
)

// sealMissing reads layers again for the groups whose files were not held, and
// submits them. A group is put together in a slot from the first of its files
// to the last; slots are bounded as the hold was, which they take the place of.
// A group that begins while no slot is free is left to the next round. Since
// tars go by folder, nearly as groups do, one round is enough for most images.
func (g *ingest) sealMissing(ctx context.Context, a *assembly, missing []group) error {
	if len(missing) == 0 {
		return nil
	}
	g.hold.close()
	g.rereading = true
	s := newSlots(g.options)
	defer s.close()
	for len(missing) > 0 {
		r := newReread(g, a, s, missing)
		if err := r.run(ctx); err != nil {
			return err
		}
		var left []group
		for _, p := range r.groups {
			if p.deferred {
				left = append(left, p.group)
			} else if p.left > 0 {
				return thaw.Errorf("", thaw.Internal, "a file that was in its layer is no longer in it")
			}
		}
		if len(left) == len(missing) {
			return thaw.Errorf("", thaw.Internal, "no group of files finds room")
		}
		missing = left
	}
	return nil
}

// reread is one round of reading layers again.
type reread struct {
	*ingest
	assembly *assembly
	slots    *slots
	groups   []*pending
	wanted   []map[int]want // by layer, by ordinal
}

// pending is a group of small files on its way.
type pending struct {
	group
	left     int // files still to come
	slot     slot
	begun    bool
	deferred bool // no slot was free when it would have begun
}

// want says what to do with a file when it comes by.
type want struct {
	file  int32    // index in the tree's files
	group *pending // of a small file
	large []sealed // of a large one
}

func newReread(g *ingest, a *assembly, s *slots, missing []group) *reread {
	r := &reread{ingest: g, assembly: a, slots: s, wanted: make([]map[int]want, len(g.layers)+1)}
	for _, gr := range missing {
		if a.tree.Files[gr.files[0]].Inode.Size >= thaw.MaxChunkBytes {
			r.wantLarge(gr)
			continue
		}
		p := &pending{group: gr, left: len(gr.files)}
		r.groups = append(r.groups, p)
		for _, i := range gr.files {
			r.want(want{file: i, group: p})
		}
	}
	return r
}

func (r *reread) want(w want) {
	f := r.assembly.tree.Files[w.file]
	if r.wanted[f.Layer] == nil {
		r.wanted[f.Layer] = make(map[int]want)
	}
	r.wanted[f.Layer][f.Ordinal] = w
}

// wantLarge wants a large file, once for all its pieces.
func (r *reread) wantLarge(gr group) {
	i := gr.files[0]
	f := r.assembly.tree.Files[i]
	w, ok := r.wanted[f.Layer][f.Ordinal]
	if !ok {
		w = want{file: i, large: make([]sealed, chunksOf(f.Inode.Size))}
		r.want(w)
	}
	r.assembly.chunks[gr.extent] = &w.large[r.assembly.piece(gr)]
}

func (r *reread) run(ctx context.Context) error {
	for i, wanted := range r.wanted[:len(r.layers)] {
		if wanted != nil {
			r.counters.total.Add(max(r.layers[i].Bytes, 0))
		}
	}
	top := len(r.layers)
	if err := r.eachMade(func(f flatten.FileHeader, data io.Reader) error { return r.file(ctx, top, f, data) }); err != nil {
		return err
	}
	for i := top - 1; i >= 0; i-- {
		if r.wanted[i] == nil {
			continue
		}
		_, err := r.readLayer(ctx, i, flatten.ScanOptions{
			FilesOnly: true,
			File:      func(f flatten.FileHeader, data io.Reader) error { return r.file(ctx, i, f, data) },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// file takes a file of layer i if it is wanted.
func (r *reread) file(ctx context.Context, i int, f flatten.FileHeader, data io.Reader) error {
	w, ok := r.wanted[i][f.Ordinal]
	if !ok {
		return nil
	}
	inode := r.assembly.tree.Files[w.file].Inode
	if f.Size != inode.Size {
		return r.layers[i].damaged("a file of it changed while it was read twice")
	}
	if w.large != nil {
		return r.sealFile(ctx, data, f.Size, r.layerDomain(i), w.large)
	}
	p := w.group
	if !p.begun && !p.deferred {
		p.slot, p.begun = r.slots.take()
		p.deferred = !p.begun
	}
	if p.deferred {
		return nil
	}
	if err := r.slots.fill(p.slot, r.assembly.start[w.file]-r.assembly.extents[p.extent].Block, f.Size, data); err != nil {
		return err
	}
	if p.left--; p.left > 0 {
		return nil
	}
	return r.complete(ctx, p)
}

// complete submits a group that has all its files.
func (r *reread) complete(ctx context.Context, p *pending) error {
	pages, err := r.sealer.buffer(ctx, r.assembly.extents[p.extent].Blocks)
	if err != nil {
		return err
	}
	if err := r.slots.read(p.slot, pages); err != nil {
		r.sealer.giveBack(pages)
		return err
	}
	r.slots.giveBack(p.slot)
	r.submit(r.assembly, p.extent, pages)
	return nil
}
