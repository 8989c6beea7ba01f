// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

// lostWorld is a repository with an image and an index that names it.
type lostWorld struct {
	*server
	dir                       string
	config, layer, img, index string // digests
}

func newLostWorld(t *testing.T) *lostWorld {
	t.Helper()
	dir := t.TempDir()
	w := &lostWorld{server: startServer(t, options(dir)), dir: dir}
	descriptor := func(mediaType, digest string, data []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(data)}
	}
	push := func(data []byte) string {
		digest := sumOf(data)
		w.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/?digest=" + digest, as: alice, body: data, status: 201})
		return digest
	}
	config, layer := []byte(`{}`), []byte("a layer")
	w.config, w.layer = push(config), push(layer)
	manifest := func(tag, mediaType string, doc map[string]any) (string, []byte) {
		doc["schemaVersion"], doc["mediaType"] = 2, mediaType
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		w.do(t, call{method: "PUT", path: "/v2/app/manifests/" + tag, as: alice, body: data, status: 201, header: map[string]string{"Content-Type": mediaType}})
		return sumOf(data), data
	}
	const imageType, indexType = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
	image, data := manifest("v1", imageType, map[string]any{
		"config": descriptor("application/vnd.oci.image.config.v1+json", w.config, config),
		"layers": []any{descriptor("application/vnd.oci.image.layer.v1.tar", w.layer, layer)},
	})
	w.img = image
	w.index, _ = manifest("all", indexType, map[string]any{"manifests": []any{descriptor(imageType, image, data)}})
	return w
}

// remove takes files of the store away, as a lost disk would.
func (w *lostWorld) remove(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, file := range files {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
	}
}

func sumOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func file(digest string) string { return strings.Replace(digest, ":", "-", 1) }

func (w *lostWorld) both(t *testing.T, path string, status int) {
	t.Helper()
	for _, method := range []string{"GET", "HEAD"} {
		c := call{method: method, path: "/v2/app/" + path, as: alice, status: status}
		if method == "GET" && status == 500 {
			c.code = registry.CodeUnknown
		}
		response, body := w.do(t, c)
		if status == 500 && (strings.Contains(string(body), w.dir) || response.Header.Get("X-Amzn-RequestId") == "") {
			t.Errorf("%s %s: %v %s", method, path, response.Header, body)
		}
		if id := response.Header.Get("X-Amzn-RequestId"); method == "GET" && status == 500 && !strings.Contains(string(body), "under request "+id) {
			t.Errorf("%s: the answer does not name the request: %s", path, body)
		}
	}
}

// TestWhatWeLostIsOurFault: what a tag, a manifest or an index of the repository
// names and is gone is a 5xx, not "unknown", for GET and HEAD. What nobody names
// stays 404.
func TestWhatWeLostIsOurFault(t *testing.T) {
	for name, test := range map[string]struct {
		remove func(w *lostWorld) string
		ask    func(w *lostWorld) []string
	}{
		"layer":        {func(w *lostWorld) string { return "repos/*/app/blobs/" + file(w.layer) }, func(w *lostWorld) []string { return []string{"blobs/" + w.layer} }},
		"config":       {func(w *lostWorld) string { return "repos/*/app/blobs/" + file(w.config) }, func(w *lostWorld) []string { return []string{"blobs/" + w.config} }},
		"blobs":        {func(*lostWorld) string { return "repos/*/app/blobs" }, func(w *lostWorld) []string { return []string{"blobs/" + w.layer} }},
		"manifest":     {func(w *lostWorld) string { return "repos/*/app/manifests/" + file(w.img) }, func(w *lostWorld) []string { return []string{"manifests/v1", "manifests/" + w.img} }},
		"index":        {func(w *lostWorld) string { return "repos/*/app/manifests/" + file(w.index) }, func(w *lostWorld) []string { return []string{"manifests/all", "manifests/" + w.index} }},
		"settings":     {func(*lostWorld) string { return "repos/*/app/repo.json" }, func(*lostWorld) []string { return []string{"blobs/sha256:" + strings.Repeat("0", 64)} }},
		"repositories": {func(*lostWorld) string { return "repos" }, func(w *lostWorld) []string { return []string{"manifests/v1", "blobs/" + w.layer, "tags/list"} }},
		"all":          {func(*lostWorld) string { return "*" }, func(*lostWorld) []string { return []string{"manifests/v1"} }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLostWorld(t)
			w.both(t, "blobs/sha256:"+strings.Repeat("0", 64), 404)
			w.both(t, "manifests/none", 404)
			w.remove(t, test.remove(w))
			for _, path := range test.ask(w) {
				if path == "tags/list" {
					w.do(t, call{method: "GET", path: "/v2/app/" + path, as: alice, status: 500, code: registry.CodeUnknown})
					continue
				}
				w.both(t, path, 500)
			}
			if _, err := w.store.Reader(registry.Identity{Tenant: alice}, "app"); err != nil {
				t.Error(err)
			}
			if err := w.store.Check(); (err != nil) != (name == "repositories" || name == "all") {
				t.Errorf("the store's own check: %v", err)
			}
		})
	}
}

// TestWhatItsOwnerDeletedIsUnknown: the owner's own deletion is no loss, also
// where something still names what was deleted; and a push heals both.
func TestWhatItsOwnerDeletedIsUnknown(t *testing.T) {
	w := newLostWorld(t)
	blob, image := "blobs/"+w.layer, "manifests/"+w.img
	w.do(t, call{method: "DELETE", path: "/v2/app/" + blob, as: alice, status: 202})
	w.both(t, blob, 404)
	w.do(t, call{method: "DELETE", path: "/v2/app/" + image, as: alice, status: 202})
	w.both(t, image, 404)
	w.both(t, "manifests/v1", 404)

	// What was lost is deleted like anything else, and pushed again.
	w = newLostWorld(t)
	w.remove(t, "repos/*/app/blobs/"+file(w.layer))
	w.both(t, blob, 500)
	w.do(t, call{method: "DELETE", path: "/v2/app/" + blob, as: alice, status: 202})
	w.both(t, blob, 404)
	w.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/?digest=" + w.layer, as: alice, body: []byte("a layer"), status: 201})
	w.both(t, blob, 200)
	w.remove(t, "repos/*/app/blobs/"+file(w.layer))
	w.both(t, blob, 500) // the mark of the deletion went with the push
}

// TestDiskErrorsNameNoPath: a disk that can't take a push is the host's fault, and
// the answer names no path.
func TestDiskErrorsNameNoPath(t *testing.T) {
	w := newLostWorld(t)
	w.remove(t, "tmp")
	_, body := w.do(t, call{method: "PUT", path: "/v2/app/manifests/v2", as: alice, status: 500, code: registry.CodeUnknown,
		header: map[string]string{"Content-Type": "application/vnd.oci.image.index.v1+json"},
		body:   []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)})
	if strings.Contains(string(body), w.dir) {
		t.Errorf("%s", body)
	}
	if kind := thaw.KindOf(fmt.Errorf("registry: %w", w.store.Check())); kind != thaw.Lost {
		t.Errorf("a lost folder is %v", kind)
	}
}
