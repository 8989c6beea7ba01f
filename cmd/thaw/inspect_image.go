// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/manifest"
	"thaw.dev/thaw/internal/chunkmap"
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

// findImage finds an image by its id, by the function that runs it, by the
// reference that a function was made from, or by what is printed of an id or a
// digest: the beginning, if only one image begins so.
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
	found := map[thaw.ImageID]string{}
	for marker := ""; ; {
		page, next, err := n.control.List(ctx, tenant, marker, 100)
		if err != nil {
			return "", id, err
		}
		for _, f := range page {
			if f.Code == nil {
				continue
			}
			if f.Code.ImageURI == what || f.Code.Digest == what {
				return f.Name, f.Code.Prepared.Image, nil
			}
			if begins(f.Code.Digest, what) || begins(f.Code.Prepared.Image.String(), what) {
				found[f.Code.Prepared.Image] = f.Name
			}
		}
		if next == "" {
			break
		}
		marker = next
	}
	if len(found) == 0 {
		if err := n.findManifests(ctx, tenant, what, found); err != nil {
			return "", id, err
		}
	}
	return onlyImage(what, found)
}

// onlyImage is what was found, if it is one.
func onlyImage(what string, found map[thaw.ImageID]string) (function string, id thaw.ImageID, err error) {
	if len(found) == 0 {
		return "", id, thaw.Errorf("inspect "+what, thaw.NotFound,
			"no function of this tenant is called that or runs an image of that name, and no image's id begins so; \"thaw ls\" lists the functions")
	}
	var names []string
	for id, function = range found {
		names = append(names, strings.TrimSpace(id.String()[:16]+" "+function))
	}
	if len(found) > 1 {
		slices.Sort(names)
		return "", id, thaw.Errorf("inspect "+what, thaw.Invalid, "several images begin so: %s: give more of one", strings.Join(names, ", "))
	}
	return function, id, nil
}

// begins reports whether what is the beginning of an id or a digest, with or
// without its algorithm.
func begins(id, what string) bool {
	return what != "" && (strings.HasPrefix(id, what) || strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), what))
}

// findManifests adds the tenant's images, whether a function runs them or not,
// whose id begins with what.
func (n *node) findManifests(ctx context.Context, tenant thaw.TenantID, what string, found map[thaw.ImageID]string) error {
	if strings.Trim(what, "0123456789abcdef") != "" {
		return nil
	}
	for key, err := range n.origin.ListObjects(ctx, manifest.KeyPrefix+what) {
		if err != nil {
			return err
		}
		id, err := thaw.ParseImageID(strings.TrimPrefix(key, manifest.KeyPrefix))
		if err != nil {
			continue
		}
		reader, err := manifest.Open(ctx, manifest.FromObjects(n.origin, id), id, nil)
		if err != nil {
			return err
		}
		if reader.Head().Tenant == tenant {
			found[id] = ""
		}
	}
	return nil
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
