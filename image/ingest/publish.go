// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/format/seal"
)

// publish writes the manifest, the last step, from chunks that are durable.
func (g *ingest) publish(ctx context.Context, a *assembly) (Result, error) {
	head := manifest.Head{
		Tenant:       g.options.Tenant,
		Root:         g.options.Root,
		Domains:      g.domains(),
		ImageBytes:   int64(a.blocks) * thaw.BlockBytes,
		MetaBytes:    int64(a.meta) * thaw.BlockBytes,
		Files:        a.count.Files,
		Dirs:         a.count.Dirs,
		Links:        a.count.Links,
		LayerBytes:   g.plain,
		SourceDigest: g.source,
	}
	dek := seal.NewDEK()
	wrapped, err := g.options.Keys.Wrap(ctx, g.options.Tenant, dek[:], head.WrapContext())
	if err != nil {
		return Result{}, thaw.OurFault("", err)
	}
	head.WrappedKey = wrapped
	chunks := a.table()
	data, id, err := manifest.Encode(head, chunks, seal.NewTableCipher(dek))
	if err != nil {
		return Result{}, err
	}
	if err := g.options.Objects.PutObject(ctx, manifest.Key(id), data); err != nil {
		return Result{}, thaw.OurFault("", err)
	}
	r := g.count(chunks)
	r.Image, r.ImageBytes, r.LayerBytes, r.Files = id, head.ImageBytes, head.LayerBytes, int(head.Files)
	r.Extensions = a.extensions
	return r, nil
}

// table returns the chunks as the manifest lists them.
func (a *assembly) table() []manifest.Chunk {
	chunks := make([]manifest.Chunk, len(a.extents))
	for i, e := range a.extents {
		s := a.chunks[i]
		chunks[i] = manifest.Chunk{Block: e.Block, Blocks: e.Blocks, Domain: e.Domain,
			SealedBytes: s.bytes, Name: s.name, Key: s.key}
	}
	return chunks
}

// count says what of the image's chunks is new.
func (g *ingest) count(chunks []manifest.Chunk) Result {
	r := Result{Chunks: len(chunks)}
	seen := make(map[thaw.ChunkName]bool, len(chunks))
	for _, c := range chunks {
		switch {
		case c.Name.IsZero():
			r.ZeroChunks++
		case g.sealer.stored(c.Name) && !seen[c.Name]:
			seen[c.Name] = true
			r.NewChunks++
			r.NewBytes += int64(c.SealedBytes)
		default:
			r.SharedChunks++
			r.SharedBytes += int64(c.SealedBytes)
		}
	}
	return r
}
