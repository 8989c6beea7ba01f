// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/internal/quota"
)

// used returns what a tenant has by the quota of that name.
func (s *server) used(t *testing.T, name string) int64 {
	t.Helper()
	return s.quota(t, name).Usage(registry.OfOwner(string(alice))).Most
}

func (s *server) quota(t *testing.T, name string) *quota.Quota {
	t.Helper()
	for _, q := range s.store.Quotas() {
		if q.Usage(nil).Name == name {
			return q
		}
	}
	t.Fatalf("no quota %q", name)
	return nil
}

// TestQuotasOfCounts: an account can't have more repositories, images and tags than
// it may, is told so, does not meet the bounds of others, and may again when
// it has deleted some.
func TestQuotasOfCounts(t *testing.T) {
	o := options(t.TempDir())
	o.Limits.Repositories, o.Limits.Images, o.Limits.Tags = 2, 2, 3
	s := startServer(t, o)
	first := s.pushImage(t, alice, "a", "v1", "one")
	s.pushImage(t, alice, "b", "v1", "one")
	for _, path := range []string{"/v2/c/blobs/uploads/", "/v2/c/blobs/uploads/?digest=" + digest([]byte("x")), "/v2/c/blobs/uploads/?from=a&mount=" + digest([]byte("one"))} {
		_, body := s.do(t, call{method: "POST", path: path, as: alice, body: []byte("x"), status: 403, code: registry.CodeDenied})
		if !strings.Contains(string(body), "as many repositories as it may have, 2") {
			t.Errorf("%s: %s", path, body)
		}
	}
	s.pushImage(t, bob, "c", "v1", "one")

	second := s.pushImage(t, alice, "a", "v2", "two")
	config, third := []byte(`{"os":"linux"}`), []byte("three")
	s.pushBlob(t, alice, "a", third)
	put := func(ref string, manifest []byte, status int) string {
		t.Helper()
		code := map[int]registry.Code{403: registry.CodeDenied}[status]
		_, body := s.do(t, call{method: "PUT", path: "/v2/a/manifests/" + ref, as: alice, body: manifest, status: status, code: code})
		return string(body)
	}
	if body := put("v3", imageOf(config, third), 403); !strings.Contains(body, "as many images as it may have, 2") {
		t.Errorf("a third image: %s", body)
	}
	put("v3", second, 201) // a third tag
	put("v3", first, 201)  // moved
	if body := put("v4", first, 403); !strings.Contains(body, "as many tags as it may have, 3") {
		t.Errorf("a fourth tag: %s", body)
	}
	for name, want := range map[string]int64{"repositories": 2, "images": 2, "tags": 3} {
		if u := s.quota(t, name).Usage(nil); u.Most != want || u.Refused == 0 {
			t.Errorf("%+v, want %d", u, want)
		}
	}
	s.do(t, call{method: "DELETE", path: "/v2/a/manifests/" + digest(first), as: alice, status: 202}) // with v1 and v3
	put("v3", imageOf(config, third), 201)
	put("v4", second, 201)
	if _, err := writer(t, s.store, alice, "b").Delete(true); err != nil {
		t.Fatal(err)
	}
	s.pushImage(t, alice, "c", "v1", "one")
}

// TestQuotaOfBytes: what an account stores is counted once, with what is under way
// and whatever others store; what is too much is refused while it comes, and
// takes no room afterwards.
func TestQuotaOfBytes(t *testing.T) {
	o := options(t.TempDir())
	o.Limits.Bytes = 1 << 20
	s := startServer(t, o)
	layer := bytes.Repeat([]byte("l"), 300<<10)
	s.pushBlob(t, alice, "a", layer)
	before := s.used(t, "registry-bytes")
	if before < int64(len(layer)) || before > 500<<10 {
		t.Errorf("a blob of %d bytes counts %d", len(layer), before)
	}
	s.pushBlob(t, alice, "a", layer) // again
	if now := s.used(t, "registry-bytes"); now != before {
		t.Errorf("what was there counts %d more", now-before)
	}
	more := bytes.Repeat([]byte("m"), 700<<10)
	_, body := s.do(t, call{method: "POST", path: "/v2/a/blobs/uploads/?digest=" + digest(more), as: alice, body: more, status: 403, code: registry.CodeDenied})
	if !strings.Contains(string(body), fmt.Sprintf("stores as much as it may, %d bytes", 1<<20)) {
		t.Errorf("too much: %s", body)
	}
	for _, path := range files(t, o.Dir, "uploads") {
		id := path[strings.LastIndexByte(path, '.')+1:]
		s.do(t, call{method: "DELETE", path: "/v2/a/blobs/uploads/" + id, as: alice, status: 204})
	}
	if now := s.used(t, "registry-bytes"); now != before {
		t.Errorf("a cancelled upload counts %d", now-before)
	}
	s.pushBlob(t, bob, "b", more)

	// Uploads that go on count as they grow; a restart does not make room.
	location := s.upload(t, "")
	s.patch(t, location, "", more[:400<<10], 202)
	s.Close()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, o)
	s.do(t, call{method: "PATCH", path: location, as: alice, body: more[400<<10:], status: 403, code: registry.CodeDenied})
	s.do(t, call{method: "DELETE", path: location, as: alice, status: 204})

	// Manifests and tags count too, and what is deleted does not.
	counted := s.used(t, "registry-bytes")
	manifest := s.pushImage(t, alice, "a", "v1", "small")
	if s.used(t, "registry-bytes") <= counted {
		t.Error("an image counts nothing")
	}
	s.do(t, call{method: "DELETE", path: "/v2/a/manifests/" + digest(manifest), as: alice, status: 202})
	for _, data := range []string{"small", `{"os":"linux"}`, string(layer)} {
		s.do(t, call{method: "DELETE", path: "/v2/a/blobs/" + digest([]byte(data)), as: alice, status: 202})
	}
	if _, err := s.store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.pushBlob(t, alice, "a", more)
}
