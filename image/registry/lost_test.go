// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/internal/testkit"
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
	w.expect(t, path, status, status)
}

// expect asks for path by GET and by HEAD.
func (w *lostWorld) expect(t *testing.T, path string, get, head int) {
	t.Helper()
	for method, status := range map[string]int{"GET": get, "HEAD": head} {
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
// names and is gone is a 5xx, not "unknown", for GET; for the owner's HEAD it is
// absent where a push puts it back. What nobody names stays 404.
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
				head := 500
				if slices.Contains([]string{"layer", "config", "blobs", "manifest", "index"}, name) {
					head = 404
				}
				w.expect(t, path, 500, head)
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
	w.expect(t, blob, 500, 404)
	w.do(t, call{method: "DELETE", path: "/v2/app/" + blob, as: alice, status: 202})
	w.both(t, blob, 404)
	w.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/?digest=" + w.layer, as: alice, body: []byte("a layer"), status: 201})
	w.both(t, blob, 200)
	w.remove(t, "repos/*/app/blobs/"+file(w.layer))
	w.expect(t, blob, 500, 404) // the mark of the deletion went with the push

	w.remove(t, "repos/*/app/manifests/"+file(w.img))
	w.do(t, call{method: "DELETE", path: "/v2/app/" + image, as: alice, status: 202})
	w.both(t, image, 404)
	w.both(t, "manifests/v1", 404)
}

// TestWhoHearsOfALoss: only who may push hears from HEAD that what we lost is
// absent, and each time it is logged. For who can only read, and for a download
// address, it is the host's fault.
func TestWhoHearsOfALoss(t *testing.T) {
	var log bytes.Buffer
	o := options(t.TempDir())
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	w := &lostWorld{server: startServer(t, o), dir: o.Dir}
	layer := []byte("a layer")
	digest := sumOf(layer)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[]}`, digest, len(layer))
	for name, owner := range map[string]thaw.TenantID{"app": alice, "public/app": publisher} {
		w.do(t, call{method: "POST", path: "/v2/" + name + "/blobs/uploads/?digest=" + digest, as: owner, body: layer, status: 201})
		w.do(t, call{method: "PUT", path: "/v2/" + name + "/manifests/v1", as: owner, body: []byte(manifest), status: 201, header: map[string]string{"Content-Type": "application/vnd.oci.image.manifest.v1+json"}})
	}
	w.remove(t, "repos/*/*/blobs/"+file(digest))
	h, err := registry.ParseDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.tokens.Issue(registry.Claims{Tenant: alice, Key: "key-" + string(alice), Scope: registry.BlobScope("app", h), Expires: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range []struct {
		path   string
		as     thaw.TenantID
		status int
	}{
		{"app/blobs/" + digest, alice, 404}, {"app/blobs/" + digest + "?" + registry.DownloadParam + "=" + token, "", 500}, {"app/blobs/" + digest, bob, 404},
		{"public/app/blobs/" + digest, publisher, 404}, {"public/app/blobs/" + digest, alice, 500}, {"public/app/blobs/" + digest, "", 500},
	} {
		log.Reset()
		w.do(t, call{method: "HEAD", path: "/v2/" + ask.path, as: ask.as, status: ask.status})
		if logged := strings.Contains(log.String(), digest+" of repository"); logged != (ask.as != bob) {
			t.Errorf("HEAD %s by %q is logged: %t\n%s", ask.path, ask.as, logged, &log)
		}
	}
}

// pushed returns the digests of a layer, the config and the manifest of app:v1.
func (w *lostWorld) pushed(t *testing.T) (layer, config, manifest string) {
	t.Helper()
	_, body := w.do(t, call{method: "GET", path: "/v2/app/manifests/v1", as: alice, status: 200})
	image, err := v1.ParseManifest(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return image.Layers[1].Digest.String(), image.Config.Digest.String(), sumOf(body)
}

// TestPushAgain: tools that push what they pushed before put back whatever was
// lost, without being told of it, and it is whole then.
func TestPushAgain(t *testing.T) {
	testkit.RequireRoot(t)
	for _, tool := range []string{"skopeo", "buildah"} {
		testkit.RequireTool(t, tool)
	}
	crane := testkit.GoTool(t, testkit.Crane)
	dir, _ := ociLayout(t)
	small := filepath.Join(os.TempDir(), fmt.Sprintf("thaw-push-again-%d", os.Getpid())) // buildah's names of local images are in lower case
	if err := os.CopyFS(small, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(small) })
	for tool, push := range map[string]func(home, host string) []string{
		"skopeo": func(_, host string) []string {
			return []string{"skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:" + dir + ":v1", "docker://" + host + "/app:v1"}
		},
		"crane": func(_, host string) []string { return []string{crane, "push", dir, host + "/app:v1"} },
		"buildah": func(home, host string) []string {
			return []string{"sh", "-ec", `b="buildah --root ` + home + `/store --runroot ` + home + `/run --storage-driver vfs"; $b pull -q oci:` + small + `:v1 >id; $b push -q --tls-verify=false $(cat id) docker://` + host + `/app:v1`}
		},
	} {
		t.Run(tool, func(t *testing.T) {
			w := &lostWorld{dir: t.TempDir()}
			w.server = startServer(t, options(w.dir))
			home := t.TempDir()
			run(t, home, "skopeo", "login", "--tls-verify=false", "-u", "key-"+string(alice), "-p", secretOf(alice), w.host())
			run(t, home, crane, "auth", "login", w.host(), "-u", "key-"+string(alice), "-p", secretOf(alice))
			command := push(home, w.host())
			run(t, home, command[0], command[1:]...)
			layer, config, id := w.pushed(t)
			for _, lost := range []string{
				"repos/*/app/blobs/" + file(layer), "blobs/*/*", "repos/*/app/blobs/" + file(config), "repos/*/app/manifests/" + file(id),
				"repos/*/app/blobs/*", "repos/*/app/blobs", "repos/*/app/manifests", "repos/*/app/tags", "repos/*/app",
			} {
				w.remove(t, lost)
				run(t, home, command[0], command[1:]...)
				run(t, home, crane, "validate", "--remote", w.host()+"/app:v1")
			}
		})
	}
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
