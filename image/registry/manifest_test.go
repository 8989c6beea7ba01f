// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
)

// FuzzParseManifest: whatever comes, a manifest that is accepted has one of the
// four media types, names only digests of a known form, and is not an image and
// an index at once.
func FuzzParseManifest(f *testing.F) {
	const d = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	image := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","digest":"` + d + `","size":2,"data":"e30="},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"` + d + `","size":2,"urls":["https://example.com"]}]}`
	f.Add("", []byte(image))
	f.Add("application/vnd.docker.distribution.manifest.v2+json", []byte(strings.Replace(image, `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, "", 1)))
	f.Add("", []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"a/b","digest":"`+d+`","size":2}],"subject":{"mediaType":"a/b","digest":"`+d+`","size":2}}`))
	f.Add("application/vnd.oci.image.index.v1+json; charset=utf-8", []byte(`{"schemaVersion":2,"manifests":null}`))
	f.Fuzz(func(t *testing.T, contentType string, data []byte) {
		doc, err := parseManifest(contentType, data)
		if err != nil {
			if CodeOf(err) != CodeManifestInvalid || thaw.KindOf(err) != thaw.Invalid {
				t.Fatalf("refused with %v %v", CodeOf(err), err)
			}
			return
		}
		if mediaType := types.MediaType(doc.mediaType); !mediaType.IsImage() && !mediaType.IsIndex() {
			t.Errorf("media type %q", doc.mediaType)
		}
		if len(doc.blobs) > 0 && len(doc.manifests) > 0 {
			t.Error("an image and an index at once")
		}
		for _, ref := range append(doc.blobs, doc.manifests...) {
			if _, err := ParseDigest(ref.Digest.String()); err != nil || ref.Size < 0 {
				t.Errorf("names %v of %d bytes", ref.Digest, ref.Size)
			}
		}
	})
}

// FuzzRoute: no path makes the router panic, or find a repository by a name
// that is not one.
func FuzzRoute(f *testing.F) {
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/a/b/manifests/c", "/v2/blobs/uploads/", "/v2/a/blobs/uploads", "/v2/a/blobs/uploads/x", "/v2//blobs/", "/v2/a/tags/list", "/v2/a/referrers/x", "/v2/blobs/blobs/blobs/uploads/"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = path
		q := &request{handler: &handler{}, w: httptest.NewRecorder(), r: r}
		serve, err := q.route()
		if (serve == nil) == (err == nil) {
			t.Fatalf("%q: no way and no error", path)
		}
		if q.name != "" && !strings.HasPrefix(path, "/v2/"+q.name+"/") {
			t.Errorf("%q: repository %q", path, q.name)
		}
	})
}

// TestEveryCodeHasAStatus: the table of codes, kinds and statuses, whole.
func TestEveryCodeHasAStatus(t *testing.T) {
	for code, want := range map[Code]int{
		CodeBlobUnknown: 404, CodeBlobUploadInvalid: 400, CodeBlobUploadUnknown: 404, CodeDigestInvalid: 400,
		CodeManifestBlobUnknown: 400, CodeManifestInvalid: 400, CodeManifestUnknown: 404, CodeNameInvalid: 400,
		CodeNameUnknown: 404, CodeSizeInvalid: 400, CodeUnauthorized: 401, CodeDenied: 403, CodeUnsupported: 405,
		CodeTooManyRequests: 429, CodeRangeInvalid: 416, CodeTagInvalid: 400, CodeTagImmutable: 400,
		CodeNameExists: 409, CodeNameNotEmpty: 409, CodeUnavailable: 503, CodeUnknown: 500,
	} {
		err := refuse(code, "why")
		if got := statusOf(CodeOf(err), thaw.KindOf(err)); got != want {
			t.Errorf("%s: status %d, want %d", code, got, want)
		}
	}
	for kind, want := range map[thaw.Kind]int{
		thaw.Internal: 500, thaw.Invalid: 400, thaw.NotFound: 404, thaw.Conflict: 409, thaw.Corrupt: 500, thaw.Denied: 401,
		thaw.TooLarge: 413, thaw.Throttled: 429, thaw.Unavailable: 503, thaw.Canceled: 503, thaw.Lost: 500,
	} {
		err := thaw.Errorf("op", kind, "why")
		if got := statusOf(CodeOf(err), thaw.KindOf(err)); got != want {
			t.Errorf("%v: status %d, want %d", kind, got, want)
		}
	}
}

// TestNamesRoundTrip: a repository's name survives being a file name.
func TestNamesRoundTrip(t *testing.T) {
	for _, name := range []string{"a", "a/b/c", "a-b__c.d/e", strings.Repeat("a/", 127) + "a"} {
		if !namePattern.MatchString(name) || unescapeName(escapeName(name)) != name || len(escapeName(name)) > 255 || strings.Contains(escapeName(name), "/") {
			t.Errorf("%q becomes %q", name, escapeName(name))
		}
	}
}

// TestManifestHeaderFits: the line before the largest index that can come is
// read back.
func TestManifestHeaderFits(t *testing.T) {
	entry := `{"mediaType":"a","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},`
	index := bytes.NewBufferString(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`)
	for index.Len()+len(entry) < MaxManifestBytes {
		index.WriteString(entry)
	}
	index.Truncate(index.Len() - 1)
	index.WriteString("]}")
	doc, err := parseManifest("", index.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{}
	for _, child := range doc.manifests {
		m.Children = append(m.Children, child.Digest.String())
	}
	header, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(header) > maxHeaderBytes {
		t.Errorf("a header of %d bytes, at most %d are read", len(header), maxHeaderBytes)
	}
}
