// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsUnknownReadsManifestsOnce: each push of something new asks for what
// the repository does not have, and that must not cost as much as its owner has
// manifests. Here they can't be read any more after the first time.
func TestWhatIsUnknownReadsManifestsOnce(t *testing.T) {
	w := newLostWorld(t)
	unknown := func(digit string) string { return "blobs/sha256:" + strings.Repeat(digit, 64) }
	w.both(t, unknown("0"), 404)
	manifests, err := filepath.Glob(filepath.Join(w.dir, "repos/*/app/manifests/sha256-*"))
	if err != nil || len(manifests) != 2 {
		t.Fatalf("manifests %q, %v", manifests, err)
	}
	for _, path := range manifests {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.both(t, unknown("1"), 404)
	for _, path := range manifests {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	w.remove(t, "repos/*/app/blobs/"+file(w.layer))
	w.expect(t, "blobs/"+w.layer, 500, 404)
}

// TestWhatIsPushedLaterIsNamed: what a manifest names that came after the first
// question is lost, and not unknown, when it is gone; what no manifest names
// any more is unknown.
func TestWhatIsPushedLaterIsNamed(t *testing.T) {
	w := newLostWorld(t)
	w.both(t, "blobs/sha256:"+strings.Repeat("0", 64), 404)
	push := func(data []byte) string {
		digest := sumOf(data)
		w.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/?digest=" + digest, as: alice, body: data, status: 201})
		return digest
	}
	layer := push([]byte("a later layer"))
	data, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": w.config, "size": 2},
		"layers": []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": len("a later layer")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.do(t, call{method: "PUT", path: "/v2/app/manifests/v2", as: alice, body: data, status: 201,
		header: map[string]string{"Content-Type": "application/vnd.oci.image.manifest.v1+json"}})
	manifest := sumOf(data)
	w.remove(t, "repos/*/app/blobs/"+file(layer))
	w.expect(t, "blobs/"+layer, 500, 404)
	w.remove(t, "repos/*/app/manifests/"+file(manifest))
	w.expect(t, "manifests/"+manifest, 500, 404) // its tag names it
	w.both(t, "blobs/"+layer, 404)               // but nothing the layer
}
