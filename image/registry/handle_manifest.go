// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
)

// getManifest serves GET and HEAD. A manifest has one form and is never
// converted, so what the client would accept makes no difference.
func (q *request) getManifest() error {
	repo, err := q.store.Reader(q.id, q.name)
	if err != nil {
		return err
	}
	m, err := repo.Manifest(q.ref)
	if err != nil {
		return q.found(err, CodeManifestUnknown)
	}
	if q.asksToPush() {
		looks := maxLooks
		if err := q.found(repo.whole(m, &looks), CodeManifestUnknown); err != nil {
			return err
		}
	}
	header := q.w.Header()
	header.Set("Content-Type", m.MediaType)
	header.Set("Content-Length", strconv.FormatInt(m.Bytes, 10))
	header.Set("Docker-Content-Digest", m.Digest.String())
	header.Set("ETag", `"`+m.Digest.String()+`"`)
	if q.r.Method == http.MethodHead {
		return nil
	}
	data, err := repo.ManifestData(m)
	if err != nil {
		header.Del("ETag")
		header.Del("Docker-Content-Digest")
		return err
	}
	q.write(data)
	return nil
}

// putManifest stores a manifest under a tag or by its digest; by its digest,
// any number of tags may come as parameters.
func (q *request) putManifest() error {
	repo, err := q.store.Writer(q.id, q.name)
	if err != nil {
		return err
	}
	data, err := q.manifest()
	if err != nil {
		return err
	}
	push := Push{Data: data, MediaType: q.r.Header.Get("Content-Type")}
	if isDigest(q.ref) {
		push.Digest, push.Tags = q.ref, q.r.URL.Query()["tag"]
	} else {
		push.Tags = []string{q.ref}
	}
	m, err := repo.PutManifest(push)
	if err != nil {
		return err
	}
	header := q.w.Header()
	header.Set("Location", "/v2/"+q.name+"/manifests/"+m.Digest.String())
	header.Set("Docker-Content-Digest", m.Digest.String())
	if m.Subject != "" {
		header.Set("OCI-Subject", m.Subject)
	}
	if push.Digest != "" {
		for _, tag := range push.Tags {
			header.Add("OCI-Tag", tag)
		}
	}
	q.w.WriteHeader(http.StatusCreated)
	return nil
}

// manifest returns the request's body.
func (q *request) manifest() ([]byte, error) {
	large := refuseAs(CodeManifestInvalid, thaw.TooLarge, "a manifest has at most %d bytes", MaxManifestBytes)
	if q.r.ContentLength > MaxManifestBytes {
		return nil, large
	}
	body, err := q.store.options.Spool.Take(string(q.id.Tenant), q.r.Body, MaxManifestBytes, nil)
	switch {
	case err == nil:
		return body.Bytes()
	case thaw.KindOf(err) == thaw.TooLarge:
		return nil, large
	case thaw.KindOf(err) == thaw.Throttled, thaw.KindOf(err) == thaw.Unavailable:
		return nil, err
	}
	return nil, refuse(CodeManifestInvalid, "the request's body broke off")
}

func (q *request) deleteManifest() error {
	repo, err := q.store.Writer(q.id, q.name)
	if err != nil {
		return err
	}
	if isDigest(q.ref) {
		h, err := ParseDigest(q.ref)
		if err != nil {
			return err
		}
		err = repo.DeleteManifest(h)
		if err != nil {
			return err
		}
	} else if err := repo.DeleteTag(q.ref); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}

// referrers lists what refers to a manifest. Where a push makes repositories,
// one that nothing was pushed to yet is an empty one: a client may ask before
// it pushes.
func (q *request) referrers() error {
	repo, err := q.store.Reader(q.id, q.name)
	if err != nil {
		return err
	}
	h, err := ParseDigest(q.ref)
	if err != nil {
		return err
	}
	query := q.r.URL.Query()
	kind := query.Get("artifactType")
	list, more, err := repo.Referrers(h, kind, query.Get("last"))
	if CodeOf(err) == CodeNameUnknown { // a push would make it
		err = nil
	}
	if err != nil {
		return err
	}
	if kind != "" {
		q.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if more {
		next := url.Values{"last": {list[len(list)-1].Digest}}
		if kind != "" {
			next.Set("artifactType", kind)
		}
		q.w.Header().Set("Link", "<"+q.r.URL.EscapedPath()+"?"+next.Encode()+`>; rel="next"`)
	}
	if list == nil {
		list = []Referrer{}
	}
	return q.answerJSONAs(string(types.OCIImageIndex), referrerIndex{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
}
