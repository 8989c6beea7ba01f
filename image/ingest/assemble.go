// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"cmp"
	"context"
	"slices"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/chunk"
	"thaw.dev/thaw/format/erofs"
	"thaw.dev/thaw/image/flatten"
)

// assembly is the image taking shape: every extent of its address space, and
// where the sealer puts the chunk of it.
type assembly struct {
	tree       *flatten.Tree
	count      flatten.Count
	extensions []string
	meta       uint32 // blocks of metadata at the front
	blocks     uint32 // of the whole image
	extents    []chunk.Extent
	chunks     []*sealed // by extent

	start []uint32 // first block of each of the tree's files
	order []int32  // the tree's files by start
}

// assemble lays the image out and submits every chunk that is not yet sealed.
func (g *ingest) assemble(ctx context.Context, tree *flatten.Tree) (*assembly, error) {
	plan, err := erofs.NewPlan(tree.Root)
	if err != nil {
		return nil, err
	}
	a := g.layOut(plan, tree)
	a.extensions = extensions(tree.Root)
	missing, err := g.sealHeld(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := g.sealMissing(ctx, a, missing); err != nil {
		return nil, err
	}
	return a, g.sealMeta(ctx, a, plan)
}

// layOut gives every file its place.
func (g *ingest) layOut(plan *erofs.Plan, tree *flatten.Tree) *assembly {
	files := make([]chunk.File, len(tree.Files))
	for i, f := range tree.Files {
		files[i] = chunk.File{Path: f.Path, Size: f.Inode.Size, Domain: g.layerDomain(f.Layer)}
	}
	a := &assembly{tree: tree, count: tree.Count, meta: plan.MetaBlocks()}
	l := chunk.Lay(files, a.meta)
	a.blocks, a.start = l.End, l.Start
	for i, f := range tree.Files {
		f.Inode.Block = l.Start[i]
	}
	a.order = make([]int32, len(files))
	for i := range a.order {
		a.order[i] = int32(i)
	}
	slices.SortFunc(a.order, func(x, y int32) int { return cmp.Compare(l.Start[x], l.Start[y]) })
	a.extents = chunk.CutMeta(a.meta)
	for i := range a.extents {
		a.extents[i].Domain = g.metaDomain()
	}
	a.extents = append(a.extents, l.Extents...)
	a.chunks = make([]*sealed, len(a.extents))
	return a
}

// group is an extent of small files, or of one piece of a large file.
type group struct {
	extent int     // index in the assembly's extents
	files  []int32 // indexes in the tree's files, by start
}

// groups yields the extents of file data, each with the files in it.
func (a *assembly) groups(yield func(group) bool) {
	next := 0
	for i, e := range a.extents {
		if e.Block < a.meta {
			continue
		}
		end := next
		for end < len(a.order) && a.start[a.order[end]] < e.End() {
			end++
		}
		if !yield(group{extent: i, files: a.order[next:end]}) {
			return
		}
		if last := a.order[end-1]; a.end(last) > e.End() {
			end-- // a large file goes on in the next extent
		}
		next = end
	}
}

// end returns the first block after file i.
func (a *assembly) end(i int32) uint32 {
	return a.start[i] + blocksOf(a.tree.Files[i].Inode.Size)
}

// sealHeld takes the chunks of large files that were sealed as they passed,
// submits the groups whose files are all held, and returns the others.
func (g *ingest) sealHeld(ctx context.Context, a *assembly) (missing []group, err error) {
	for gr := range a.groups {
		f := a.tree.Files[gr.files[0]]
		from := g.scanned[f.Layer]
		if f.Inode.Size >= thaw.MaxChunkBytes {
			if chunks := from.large[f.Ordinal]; chunks != nil {
				a.chunks[gr.extent] = &chunks[a.piece(gr)]
			} else {
				missing = append(missing, gr)
			}
			continue
		}
		if !g.allHeld(a, gr) {
			missing = append(missing, gr)
			continue
		}
		if err := g.sealGroup(ctx, a, gr); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// piece returns which piece of its large file a group is.
func (a *assembly) piece(gr group) uint32 {
	return (a.extents[gr.extent].Block - a.start[gr.files[0]]) / chunk.MaxBlocks
}

func (g *ingest) allHeld(a *assembly, gr group) bool {
	for _, i := range gr.files {
		f := a.tree.Files[i]
		if g.scanned[f.Layer].held[f.Ordinal] == notHeld {
			return false
		}
	}
	return true
}

// sealGroup puts the held files of a group together and submits them.
func (g *ingest) sealGroup(ctx context.Context, a *assembly, gr group) error {
	e := a.extents[gr.extent]
	pages, err := g.sealer.buffer(ctx, e.Blocks)
	if err != nil {
		return err
	}
	clear(pages)
	for _, i := range gr.files {
		f := a.tree.Files[i]
		at := int64(a.start[i]-e.Block) * thaw.BlockBytes
		if err := g.hold.read(pages[at:at+f.Inode.Size], g.scanned[f.Layer].held[f.Ordinal]); err != nil {
			g.sealer.giveBack(pages)
			return err
		}
	}
	g.submit(a, gr.extent, pages)
	return nil
}

// submit has the chunk of an extent sealed.
func (g *ingest) submit(a *assembly, extent int, pages []byte) {
	a.chunks[extent] = new(sealed)
	g.sealer.submit(job{pages: pages, domain: a.extents[extent].Domain, to: a.chunks[extent]})
}

// sealMeta writes the metadata of the image and submits its chunks.
func (g *ingest) sealMeta(ctx context.Context, a *assembly, plan *erofs.Plan) error {
	image, err := plan.Encode(a.blocks)
	if err != nil {
		return err
	}
	for i, e := range a.extents {
		if e.Block >= a.meta {
			break
		}
		pages, err := g.sealer.buffer(ctx, e.Blocks)
		if err != nil {
			return err
		}
		copy(pages, image[int64(e.Block)*thaw.BlockBytes:])
		g.submit(a, i, pages)
	}
	return nil
}

// maxExtensions is how many extensions Lambda starts at most.
const maxExtensions = 10

// extensions lists what Lambda would start beside the function's program.
func extensions(root *erofs.Inode) []string {
	dir := root
	for _, name := range []string{"opt", "extensions"} {
		i := slices.IndexFunc(dir.Entries, func(e erofs.Entry) bool { return e.Name == name })
		if i < 0 {
			return nil
		}
		dir = dir.Entries[i].Inode
	}
	var names []string
	for _, e := range dir.Entries {
		if e.Inode.IsRegular() && e.Inode.Mode&0o111 != 0 || e.Inode.Target != "" {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), maxExtensions)]
}
