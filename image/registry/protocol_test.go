// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"thaw.dev/thaw/image/registry"
)

// TestBadInput is a table of requests that must be refused, and how.
func TestBadInput(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	manifest := s.pushImage(t, alice, "app", "v1", "layer")
	config, layer := []byte(`{"os":"linux"}`), []byte("layer")
	image := func(old, replacement string) []byte {
		return []byte(strings.Replace(string(imageOf(config, layer)), old, replacement, 1))
	}
	index := func(entries string) []byte {
		return []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` + entries + `]}`)
	}
	put := func(body []byte, status int, code registry.Code) call {
		return call{method: "PUT", path: "/v2/app/manifests/bad", body: body, status: status, code: code}
	}
	sized := func(c call, k, v string) call { c.header = map[string]string{k: v}; return c }
	for i, c := range []call{
		// names
		{method: "GET", path: "/v2/App/tags/list", status: 400, code: registry.CodeNameInvalid},
		{method: "GET", path: "/v2/a//b/tags/list", status: 400, code: registry.CodeNameInvalid},
		{method: "GET", path: "/v2/a/../b/tags/list", status: 400, code: registry.CodeNameInvalid},
		{method: "GET", path: "/v2/%2e%2e/tags/list", status: 400, code: registry.CodeNameInvalid},
		{method: "GET", path: "/v2/a!b/tags/list", status: 400, code: registry.CodeNameInvalid},
		{method: "GET", path: "/v2/a%00b/tags/list", status: 400, code: registry.CodeNameInvalid},
		{method: "POST", path: "/v2/" + strings.Repeat("a", 256) + "/blobs/uploads/", status: 400, code: registry.CodeNameInvalid},
		{method: "POST", path: "/v2/public//blobs/uploads/", status: 400, code: registry.CodeNameInvalid},
		// paths and methods
		{method: "GET", path: "/v2/nothing", status: 404},
		{method: "GET", path: "/v2/manifests/v1", status: 404},
		{method: "GET", path: "/v2x/app/tags/list", status: 404},
		{method: "POST", path: "/v2/app/manifests/v1", status: 405, code: registry.CodeUnsupported},
		{method: "PUT", path: "/v2/app/blobs/" + digest(layer), status: 405, code: registry.CodeUnsupported},
		{method: "GET", path: "/v2/app/tags/list?n=-1", status: 405, code: registry.CodeUnsupported},
		{method: "GET", path: "/v2/app/tags/list?n=x", status: 405, code: registry.CodeUnsupported},
		// digests and tags
		{method: "GET", path: "/v2/app/blobs/sha256:abc", status: 400, code: registry.CodeDigestInvalid},
		{method: "GET", path: "/v2/app/blobs/SHA256:" + strings.Repeat("0", 64), status: 400, code: registry.CodeDigestInvalid},
		{method: "GET", path: "/v2/app/blobs/sha256:" + strings.Repeat("A", 64), status: 400, code: registry.CodeDigestInvalid},
		{method: "GET", path: "/v2/app/blobs/md5:" + strings.Repeat("0", 32), status: 400, code: registry.CodeDigestInvalid},
		{method: "GET", path: "/v2/app/blobs/..%2f..%2flock", status: 404},
		{method: "GET", path: "/v2/app/manifests/sha256:x", status: 400, code: registry.CodeDigestInvalid},
		{method: "GET", path: "/v2/app/manifests/.INVALID", status: 404, code: registry.CodeManifestUnknown},
		{method: "DELETE", path: "/v2/app/manifests/v9", status: 404, code: registry.CodeManifestUnknown},
		{method: "PUT", path: "/v2/app/manifests/-x", body: manifest, status: 400, code: registry.CodeTagInvalid},
		{method: "PUT", path: "/v2/app/manifests/" + strings.Repeat("a", 129), body: manifest, status: 400, code: registry.CodeTagInvalid},
		{method: "PUT", path: "/v2/app/manifests/" + unknownDigest, body: manifest, status: 400, code: registry.CodeDigestInvalid},
		{method: "PUT", path: "/v2/app/manifests/" + digest(manifest) + "?tag=ok&tag=.no", body: manifest, status: 400, code: registry.CodeTagInvalid},
		// uploads
		{method: "POST", path: "/v2/app/blobs/uploads/?digest=x", status: 400, code: registry.CodeDigestInvalid},
		{method: "POST", path: "/v2/app/blobs/uploads/?mount=x", status: 400, code: registry.CodeDigestInvalid},
		{method: "POST", path: "/v2/app/blobs/uploads/?digest-algorithm=md5", status: 400, code: registry.CodeDigestInvalid},
		{method: "PATCH", path: "/v2/app/blobs/uploads/nope", status: 404, code: registry.CodeBlobUploadUnknown},
		{method: "PUT", path: "/v2/app/blobs/uploads/..%2f..%2flock?digest=" + digest(nil), status: 404},
		// manifests
		put(nil, 400, registry.CodeManifestInvalid),
		put([]byte("null"), 400, registry.CodeManifestInvalid),
		put([]byte("[]"), 400, registry.CodeManifestInvalid),
		put([]byte(`{"schemaVersion":2`), 400, registry.CodeManifestInvalid),
		put(append(image("", ""), '}'), 400, registry.CodeManifestInvalid),
		put(image(`"schemaVersion":2`, `"schemaVersion":1`), 400, registry.CodeManifestInvalid),
		put(image(`image.manifest.v1`, `image.other.v1`), 400, registry.CodeManifestInvalid),
		put(image(`"layers"`, `"manifests":[],"layers"`), 400, registry.CodeManifestInvalid),
		put(image(`"config"`, `"gonfic"`), 400, registry.CodeManifestInvalid),
		put(image(digest(layer), "sha256:12"), 400, registry.CodeManifestInvalid),
		put(image(`"size":5`, `"size":6`), 400, registry.CodeManifestInvalid),
		put(image(`"size":5`, `"size":-5`), 400, registry.CodeManifestInvalid),
		put(image(`,"size":5`, ``), 400, registry.CodeManifestInvalid),
		put(image(`"size":5`, `"size":5,"data":"aGVsbG8="`), 400, registry.CodeManifestInvalid),
		put(image(digest(layer), unknownDigest), 400, registry.CodeManifestBlobUnknown),
		put(image(`"layers"`, `"subject":{"mediaType":"a/b","size":1,"digest":"x"},"layers"`), 400, registry.CodeManifestInvalid),
		put(index(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"`+unknownDigest+`"}`), 400, registry.CodeManifestBlobUnknown),
		put(index(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"`+digest(manifest)+`"}`), 400, registry.CodeManifestInvalid),
		put(bytes.Replace(index(""), []byte(`"manifests"`), []byte(`"layers":[],"manifests"`), 1), 400, registry.CodeManifestInvalid),
		put([]byte(`{"schemaVersion":1,"fsLayers":[],"name":"x"}`), 400, registry.CodeManifestInvalid),
		put(append(image("", ""), bytes.Repeat([]byte{' '}, registry.MaxManifestBytes)...), 413, registry.CodeManifestInvalid),
		sized(put(manifest, 400, registry.CodeManifestInvalid), "Content-Type", "application/vnd.oci.image.index.v1+json"),
		sized(put(manifest, 400, registry.CodeManifestInvalid), "Content-Type", "a/b/c"),
		sized(put([]byte(`{"schemaVersion":1}`), 400, registry.CodeManifestInvalid), "Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
	} {
		c.as = alice
		t.Run(fmt.Sprintf("%d %s", i, c.method), func(t *testing.T) { s.do(t, c) })
	}
	// Nothing of that has left a trace.
	_, body := s.do(t, call{method: "GET", path: "/v2/app/tags/list", as: alice, status: 200})
	if string(body) != `{"name":"app","tags":["v1"]}` {
		t.Errorf("tags afterwards: %s", body)
	}
}

// TestManifestOfLargestSize: 4 MiB exactly are taken.
func TestManifestOfLargestSize(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	manifest := s.pushImage(t, alice, "app", "v1", "layer")
	manifest = append(manifest, bytes.Repeat([]byte{'\n'}, registry.MaxManifestBytes-len(manifest))...)
	s.do(t, call{method: "PUT", path: "/v2/app/manifests/big", as: alice, body: manifest, status: 201})
	_, body := s.do(t, call{method: "GET", path: "/v2/app/manifests/big", as: alice, status: 200})
	if !bytes.Equal(body, manifest) {
		t.Error("it came back changed")
	}
}

// upload begins an upload and returns its address.
func (s *server) upload(t testing.TB, query string) string {
	t.Helper()
	resp, _ := s.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/" + query, as: alice, status: 202})
	return resp.Header.Get("Location")
}

func (s *server) patch(t testing.TB, location, contentRange string, body []byte, status int) *http.Response {
	t.Helper()
	c := call{method: "PATCH", path: location, as: alice, body: body, status: status}
	if contentRange != "" {
		c.header = map[string]string{"Content-Range": contentRange}
	}
	resp, _ := s.do(t, c)
	return resp
}

// TestUploadGoesOn: chunks in order, a wrong one that changes nothing, a
// connection that breaks, and another process that takes over; the digest is
// right in the end.
func TestUploadGoesOn(t *testing.T) {
	for _, algorithm := range []string{"sha256", "sha512"} {
		t.Run(algorithm, func(t *testing.T) {
			dir := t.TempDir()
			data := bytes.Repeat([]byte("0123456789"), 100_000)
			want := digest(data)
			if algorithm == "sha512" {
				sum := sha512.Sum512(data)
				want = "sha512:" + hex.EncodeToString(sum[:])
			}
			var location string
			t.Run("first process", func(t *testing.T) {
				s := startServer(t, options(dir))
				location = s.upload(t, "")
				resp := s.patch(t, location, "0-299999", data[:300_000], 202)
				if got := resp.Header.Get("Range"); got != "0-299999" {
					t.Errorf("range %q", got)
				}
				for _, wrong := range []string{"0-9", "400000-400009", "299999-300008"} {
					if resp := s.patch(t, location, wrong, data[:10], 416); resp.Header.Get("Range") != "0-299999" {
						t.Errorf("after %s: range %q", wrong, resp.Header.Get("Range"))
					}
				}
				s.patch(t, location, "300000-300010", data[300_000:300_010], 400)
				s.patch(t, location, "x-y", nil, 400)
				s.breakOff(t, location, data[300_000:500_000])
				// The server may not have seen yet what was sent last.
				for got := ""; got != "0-499999"; {
					resp, _ = s.do(t, call{method: "GET", path: location, as: alice, status: 204})
					got = resp.Header.Get("Range")
				}
			})
			s := startServer(t, options(dir))
			resp, _ := s.do(t, call{method: "GET", path: location, as: alice, status: 204})
			if got := resp.Header.Get("Range"); got != "0-499999" {
				t.Errorf("in another process: range %q", got)
			}
			s.patch(t, location, "", data[500_000:700_000], 202)
			s.do(t, call{method: "PUT", path: location + "?digest=" + want, as: alice, body: data[700_000:], status: 201,
				header: map[string]string{"Content-Range": "700000-999999"}})
			_, body := s.do(t, call{method: "GET", path: "/v2/app/blobs/" + want, as: alice, status: 200})
			if !bytes.Equal(body, data) {
				t.Error("the blob came back changed")
			}
			s.do(t, call{method: "GET", path: location, as: alice, status: 404, code: registry.CodeBlobUploadUnknown})
		})
	}
}

// breakOff sends bytes of a longer request and drops the connection.
func (s *server) breakOff(t testing.TB, location string, data []byte) {
	t.Helper()
	reader, writer := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", s.URL+location, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("key-"+string(alice), secretOf(alice))
	done := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	if _, err := writer.Write(data); err != nil {
		t.Fatal(err)
	}
	writer.CloseWithError(io.ErrClosedPipe)
	if err := <-done; err == nil {
		t.Error("the broken request got an answer")
	}
}

// TestUploadLimits: the size of a blob, the number of uploads, and cancelling.
func TestUploadLimits(t *testing.T) {
	o := options(t.TempDir())
	o.MaxBlobBytes, o.Limits.Uploads = 1000, 2
	s := startServer(t, o)
	s.pushBlob(t, alice, "app", make([]byte, 1000))
	s.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/?digest=" + unknownDigest, as: alice, body: make([]byte, 1001), status: 413, code: registry.CodeSizeInvalid})
	location := s.upload(t, "") // the second that is under way: the first was refused, not cancelled
	s.do(t, call{method: "POST", path: "/v2/app2/blobs/uploads/", as: alice, status: 429, code: registry.CodeTooManyRequests})
	s.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/", as: bob, status: 202})
	s.do(t, call{method: "DELETE", path: location, as: alice, status: 204})
	s.do(t, call{method: "DELETE", path: location, as: alice, status: 404, code: registry.CodeBlobUploadUnknown})
	s.upload(t, "")
}

func TestTagPages(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	manifest := s.pushImage(t, alice, "app", "v1", "layer")
	want := []string{"v1"}
	for _, tag := range []string{"a", "B", "z.1", "z-1", "z_1", "Z", "0"} {
		s.do(t, call{method: "PUT", path: "/v2/app/manifests/" + tag, as: alice, body: manifest, status: 201})
		want = append(want, tag)
	}
	slices.Sort(want)
	var got []string
	for path := "/v2/app/tags/list?n=3"; path != ""; {
		resp, body := s.do(t, call{method: "GET", path: path, as: alice, status: 200})
		var list struct{ Tags []string }
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		got = append(got, list.Tags...)
		path = next(resp)
	}
	if !slices.Equal(got, want) {
		t.Errorf("tags %v, want %v", got, want)
	}
	if resp, body := s.do(t, call{method: "GET", path: "/v2/app/tags/list?n=0", as: alice, status: 200}); next(resp) != "" || !bytes.Contains(body, []byte(`"tags":[]`)) {
		t.Errorf("n=0: %s, next %q", body, next(resp))
	}
	for _, name := range []string{"b", "a/b", "a-b", "a"} {
		s.pushBlob(t, alice, name, nil)
	}
	got = nil
	for path := "/v2/_catalog?n=2"; path != ""; {
		resp, body := s.do(t, call{method: "GET", path: path, as: alice, status: 200})
		var list struct{ Repositories []string }
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		got = append(got, list.Repositories...)
		path = next(resp)
	}
	if !slices.Equal(got, []string{"a", "a-b", "a/b", "app", "b"}) {
		t.Errorf("catalog %v", got)
	}
}

// next returns the address of the next page, "" on the last.
func next(resp *http.Response) string {
	link, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	return link
}

// TestReferrersPages: descriptors with long annotations come in pages no larger
// than a manifest.
func TestReferrersPages(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	subject := s.pushImage(t, alice, "app", "v1", "layer")
	for i := range 5 {
		config := []byte(`{"os":"linux"}`)
		artifact := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"test/%d","config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[],"subject":{"mediaType":"a/b","digest":%q,"size":%d},"annotations":{"i":"%d","long":%q}}`,
			i%2, digest(config), len(config), digest(subject), len(subject), i, strings.Repeat("x", 1_500_000))
		resp, _ := s.do(t, call{method: "PUT", path: "/v2/app/manifests/" + digest(artifact), as: alice, body: artifact, status: 201})
		if resp.Header.Get("OCI-Subject") != digest(subject) {
			t.Errorf("OCI-Subject %q", resp.Header.Get("OCI-Subject"))
		}
	}
	for query, want := range map[string]int{"": 5, "?artifactType=test/0": 3, "?artifactType=test/1": 2, "?artifactType=none": 0} {
		seen, pages := map[string]bool{}, 0
		for path := "/v2/app/referrers/" + digest(subject) + query; path != ""; pages++ {
			resp, body := s.do(t, call{method: "GET", path: path, as: alice, status: 200})
			var index struct {
				Manifests []struct {
					Digest      string
					Annotations map[string]string
				}
			}
			if err := json.Unmarshal(body, &index); err != nil {
				t.Fatal(err)
			}
			if len(body) > registry.MaxManifestBytes+1000 {
				t.Errorf("a page of %d bytes", len(body))
			}
			for _, m := range index.Manifests {
				seen[m.Digest+m.Annotations["i"]] = true
			}
			path = next(resp)
		}
		if len(seen) != want || (want > 2) != (pages > 1) {
			t.Errorf("%q: %d referrers on %d pages, want %d", query, len(seen), pages, want)
		}
	}
}

func TestImmutableTags(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	first := s.pushImage(t, alice, "app", "v1", "one")
	s.pushImage(t, alice, "app", "latest", "one")
	w, err := s.store.Writer(registry.Identity{Tenant: alice}, "app")
	if err != nil {
		t.Fatal(err)
	}
	set := func(m registry.Mutability, filters ...string) {
		t.Helper()
		if _, err := w.Change(func(s *registry.Settings) error { s.Mutability, s.Filters = m, filters; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	second := s.pushImage(t, alice, "app", "other", "two")
	put := func(tag string, body []byte, status int) {
		t.Helper()
		c := call{method: "PUT", path: "/v2/app/manifests/" + tag, as: alice, body: body, status: status}
		if status != 201 {
			c.code = registry.CodeTagInvalid
		}
		s.do(t, c)
	}
	set(registry.Immutable)
	put("v1", second, 400)
	put("v1", first, 201) // what it is already
	put("new", second, 201)
	s.do(t, call{method: "PUT", path: "/v2/app/manifests/" + digest(second) + "?tag=fresh&tag=v1", as: alice, body: second, status: 400, code: registry.CodeTagInvalid})
	s.do(t, call{method: "GET", path: "/v2/app/manifests/fresh", as: alice, status: 404})
	set(registry.ImmutableExcluding, "late*", "*-dev")
	put("v1", second, 400)
	put("latest", second, 201)
	set(registry.MutableExcluding, "v*")
	put("v1", second, 400)
	put("latest", first, 201)
	set(registry.Mutable)
	put("v1", second, 201)
	for _, bad := range []registry.Settings{{Mutability: "SOMETIMES"}, {Mutability: registry.Immutable, Filters: []string{"x"}},
		{Mutability: registry.MutableExcluding}, {Mutability: registry.MutableExcluding, Filters: []string{"[a-z]"}}, {Mutability: registry.MutableExcluding, Filters: []string{"***"}}} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestConditionalAndRangedReads: what caches and resuming clients need.
func TestConditionalAndRangedReads(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	data := bytes.Repeat([]byte("0123456789"), 1000)
	path := "/v2/app/blobs/" + s.pushBlob(t, alice, "app", data)
	resp, body := s.do(t, call{method: "GET", path: path, as: alice, status: 206, header: map[string]string{"Range": "bytes=9990-"}})
	if string(body) != "0123456789" || resp.Header.Get("Content-Range") != "bytes 9990-9999/10000" {
		t.Errorf("%q, %q", body, resp.Header.Get("Content-Range"))
	}
	s.do(t, call{method: "GET", path: path, as: alice, status: 416, header: map[string]string{"Range": "bytes=10000-"}})
	s.do(t, call{method: "GET", path: path, as: alice, status: 304, header: map[string]string{"If-None-Match": resp.Header.Get("Etag")}})
	resp, body = s.do(t, call{method: "HEAD", path: path, as: alice, status: 200})
	if len(body) != 0 || resp.Header.Get("Content-Length") != strconv.Itoa(len(data)) || resp.Header.Get("Docker-Content-Digest") != digest(data) {
		t.Errorf("HEAD: %v", resp.Header)
	}
}
