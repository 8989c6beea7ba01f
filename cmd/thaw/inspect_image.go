package main

import (
	"context"
	"net/http"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/internal/chunkmap"
	"thaw.dev/thaw/invoke/control"
)

// inspectImage answers thaw image inspect.
func (n *node) inspectImage(r *http.Request) (any, error) {
	ctx := r.Context()
	account, err := n.tenant(r)
	if err != nil {
		return nil, err
	}
	function, id, err := n.findImage(ctx, account.ID, r.URL.Query().Get("image"))
	if err != nil {
		return nil, err
	}
	ours := func(err error) error { return err }
	if function != "" { // our record named the image, not the caller
		ours = func(err error) error { return thaw.OurFault("inspect "+function, err) }
	}
	reader, err := manifest.Open(ctx, manifest.FromObjects(n.origin, id), id, nil)
	if err != nil {
		return nil, ours(err)
	}
	head := reader.Head()
	if head.Tenant != account.ID {
		return nil, thaw.Errorf("inspect "+id.String(), thaw.NotFound, "tenant %s has no such image", account.Name)
	}
	report := imageReport{
		Image: id, Source: head.SourceDigest, Function: function,
		ImageBytes: head.ImageBytes, LayerBytes: head.LayerBytes, MetaBytes: head.MetaBytes,
		Files: head.Files, Dirs: head.Dirs, Links: head.Links, Chunks: reader.Len(),
	}
	touched, err := n.loader.Touched(ctx, account.ID, id)
	if err != nil {
		return nil, ours(err)
	}
	if err := report.count(ctx, reader, touched); err != nil {
		return nil, err
	}
	report.SharedChunks, err = n.sharedChunks(ctx, id, reader)
	return report, err
}

// findImage finds an image by its id, by the function that runs it, or by the
// reference that a function was made from.
func (n *node) findImage(ctx context.Context, tenant thaw.TenantID, what string) (function string, id thaw.ImageID, err error) {
	if id, err := thaw.ParseImageID(what); err == nil {
		return "", id, nil
	}
	f, _, err := n.control.Get(ctx, tenant, what, "")
	if err != nil && thaw.KindOf(err) != thaw.NotFound && thaw.KindOf(err) != thaw.Invalid {
		return "", id, err
	}
	if err == nil {
		if f.Code == nil {
			return "", id, thaw.Errorf("inspect "+what, thaw.Conflict, "its image is not ready: %s %s", f.State, f.Reason)
		}
		return f.Name, f.Code.Prepared.Image, nil
	}
	for marker := ""; ; {
		page, next, err := n.control.List(ctx, tenant, marker, 100)
		if err != nil {
			return "", id, err
		}
		for _, f := range page {
			if made(f, what) {
				return f.Name, f.Code.Prepared.Image, nil
			}
		}
		if next == "" {
			return "", id, thaw.Errorf("inspect "+what, thaw.NotFound, "no function of this tenant is called that or runs an image of that name; \"thaw ls\" lists the functions")
		}
		marker = next
	}
}

func made(f *control.Function, ref string) bool {
	return f.Code != nil && (f.Code.ImageURI == ref || f.Code.Digest == ref)
}

// count fills in what the manifest's chunks tell.
func (r *imageReport) count(ctx context.Context, reader *manifest.Reader, touched []int) error {
	public := map[uint8]bool{}
	for i, d := range reader.Head().Domains {
		public[uint8(i)] = d == thaw.DomainPublic
	}
	stored := map[thaw.ChunkName]bool{}
	sizes := make([]int64, 0, reader.Len())
	for c, err := range reader.All(ctx) {
		if err != nil {
			return err
		}
		sizes = append(sizes, int64(c.SealedBytes))
		if c.Name.IsZero() {
			r.ZeroChunks++
			r.Cells = append(r.Cells, chunkmap.Zero)
			continue
		}
		r.Cells = append(r.Cells, chunkmap.Untouched)
		if public[c.Domain] {
			r.PublicChunks++
		}
		if !stored[c.Name] {
			stored[c.Name] = true
			r.StoredBytes += int64(c.SealedBytes)
		}
	}
	for _, i := range touched {
		if i < len(r.Cells) && r.Cells[i] == chunkmap.Untouched {
			r.Cells[i] = chunkmap.Touched
			r.Touched++
			r.TouchedBytes += sizes[i]
		}
	}
	return nil
}

// sharedChunks counts the image's chunks that other images of the store hold
// too. It reads the names in every manifest, which needs no key.
func (n *node) sharedChunks(ctx context.Context, id thaw.ImageID, reader *manifest.Reader) (int, error) {
	mine := map[thaw.ChunkName]bool{} // true once seen elsewhere
	for name, err := range reader.Names(ctx) {
		if err != nil {
			return 0, err
		}
		mine[name] = false
	}
	for key, err := range n.origin.ListObjects(ctx, manifest.KeyPrefix) {
		if err != nil {
			return 0, err
		}
		other, err := thaw.ParseImageID(key[len(manifest.KeyPrefix):])
		if err != nil || other == id {
			continue
		}
		theirs, err := manifest.Open(ctx, manifest.FromObjects(n.origin, other), other, nil)
		if err != nil {
			return 0, err
		}
		for name, err := range theirs.Names(ctx) {
			if err != nil {
				return 0, err
			}
			if _, ok := mine[name]; ok {
				mine[name] = true
			}
		}
	}
	shared := 0
	for _, elsewhere := range mine {
		if elsewhere {
			shared++
		}
	}
	return shared, nil
}
