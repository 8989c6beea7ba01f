// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

// files lists the regular files below a store's folder that are not settings,
// with the numbers of its links left out.
func files(t testing.TB, dir, below string) (found []string) {
	t.Helper()
	root := filepath.Join(dir, below)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestBytesAreKeptOnce: three repositories of a tenant, one file; it goes with the
// last of them. Another tenant has its own.
func TestBytesAreKeptOnce(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	data := bytes.Repeat([]byte("x"), 100_000)
	d := s.pushBlob(t, alice, "one", data)
	s.pushBlob(t, alice, "two", data)
	s.pushBlob(t, bob, "one", data)
	s.do(t, call{method: "POST", path: "/v2/three/blobs/uploads/?from=one&mount=" + d, as: alice, status: 201})
	s.pushBlob(t, alice, "one", data) // again
	if _, err := s.store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, o.Dir, "blobs"); len(got) != 2 {
		t.Errorf("stored: %v", got)
	}
	if got := files(t, o.Dir, "tmp"); len(got) != 0 {
		t.Errorf("left in tmp: %v", got)
	}
	s.do(t, call{method: "DELETE", path: "/v2/one/blobs/" + d, as: alice, status: 202})
	s.do(t, call{method: "HEAD", path: "/v2/one/blobs/" + d, as: alice, status: 404})
	s.do(t, call{method: "HEAD", path: "/v2/one/blobs/" + d, as: bob, status: 200})
	s.do(t, call{method: "DELETE", path: "/v2/two/blobs/" + d, as: alice, status: 202})
	w := writer(t, s.store, alice, "three")
	if _, err := w.Delete(false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, o.Dir, "blobs"); len(got) != 1 || !strings.HasPrefix(got[0], string(bob)) {
		t.Errorf("stored while only bob has it: %v", got)
	}
	s.do(t, call{method: "DELETE", path: "/v2/one/blobs/" + d, as: bob, status: 202})
	if _, err := s.store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, o.Dir, "blobs"); len(got) != 0 {
		t.Errorf("stored though nobody has it: %v", got)
	}
}

func writer(t testing.TB, s *registry.Store, as thaw.TenantID, name string) *registry.Writer {
	t.Helper()
	w, err := s.Writer(registry.Identity{Tenant: as}, name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestCleanRemovesOnlyTheOld: what rests too long goes, what a manifest names
// or what has just come stays.
func TestCleanRemovesOnlyTheOld(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	s.pushImage(t, alice, "app", "v1", "named")
	s.pushBlob(t, alice, "app", []byte("unnamed"))
	location := s.upload(t, "")
	s.patch(t, location, "", []byte("half"), 202)
	if done, err := s.store.Clean(t.Context()); err != nil || done != (registry.Cleaned{}) {
		t.Errorf("while all is new: %+v, %v", done, err)
	}
	s.do(t, call{method: "HEAD", path: "/v2/app/blobs/" + digest([]byte("unnamed")), as: alice, status: 200})
	s.Close()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}

	o.StaleAfter = time.Nanosecond
	old := startServer(t, o)
	done, err := old.store.Clean(t.Context())
	if err != nil || done.Uploads != 1 || done.Blobs != 1 || done.Bytes != int64(len("unnamed")) {
		t.Errorf("when all is old: %+v, %v", done, err)
	}
	old.do(t, call{method: "HEAD", path: "/v2/app/blobs/" + digest([]byte("unnamed")), as: alice, status: 404})
	old.do(t, call{method: "GET", path: location, as: alice, status: 404, code: registry.CodeBlobUploadUnknown})
	old.do(t, call{method: "GET", path: "/v2/app/blobs/" + digest([]byte("named")), as: alice, status: 200})
	if left := files(t, o.Dir, "uploads"); len(left) != 0 {
		t.Errorf("uploads left: %v", left)
	}
	// An image that is deleted frees its layers with the next round.
	old.do(t, call{method: "DELETE", path: "/v2/app/manifests/" + digest(imageOf([]byte(`{"os":"linux"}`), []byte("named"))), as: alice, status: 202})
	if done, err = old.store.Clean(t.Context()); err != nil || done.Blobs != 2 {
		t.Errorf("after the image was deleted: %+v, %v", done, err)
	}
	if left := files(t, o.Dir, "blobs"); len(left) != 0 {
		t.Errorf("blobs left: %v", left)
	}
}

// TestOpenTidiesUp: what a dead process left in tmp is gone, bytes that it had
// not linked yet go with the first round, and two processes can't meet.
func TestOpenTidiesUp(t *testing.T) {
	o := options(t.TempDir())
	store, err := registry.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(o); thaw.KindOf(err) != thaw.Conflict {
		t.Errorf("a second process: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	orphan := digest([]byte("orphan"))[len("sha256:"):]
	for _, path := range []string{"tmp/file.X", "tmp/link.X", "blobs/" + string(alice) + "/sha256-" + orphan, "blobs/sha256/" + orphan[:2] + "/" + orphan} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(o.Dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.Dir, path), []byte("orphan"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store = openStore(t, o)
	if left := files(t, o.Dir, "tmp"); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan error, 1)
	go func() { finished <- store.Run(ctx) }()
	for len(files(t, o.Dir, "blobs")) > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

// TestDamageIsTold: a manifest whose stored bytes changed is never served.
func TestDamageIsTold(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	manifest := s.pushImage(t, alice, "app", "v1", "layer")
	path := filepath.Join(o.Dir, "repos", string(alice), "app", "manifests", strings.Replace(digest(manifest), ":", "-", 1))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(data, []byte(`"layers"`), []byte(`"Layers"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, body := s.do(t, call{method: "GET", path: "/v2/app/manifests/v1", as: alice, status: 500, code: registry.CodeUnknown})
	if strings.Contains(string(body), o.Dir) || strings.Contains(string(body), "Layers") {
		t.Errorf("the answer says too much: %s", body)
	}
	// Pushing it again heals it, as it does a layer that lost its end.
	s.pushImage(t, alice, "app", "v1", "layer")
	if _, body := s.do(t, call{method: "GET", path: "/v2/app/manifests/v1", as: alice, status: 200}); !bytes.Equal(body, manifest) {
		t.Error("pushing again did not heal the manifest")
	}
	layer := digest([]byte("layer"))[len("sha256:"):]
	if err := os.Truncate(filepath.Join(o.Dir, "blobs", string(alice), "sha256-"+layer), 2); err != nil {
		t.Fatal(err)
	}
	s.pushBlob(t, alice, "app", []byte("layer"))
	if _, body := s.do(t, call{method: "GET", path: "/v2/app/blobs/sha256:" + layer, as: alice, status: 200}); string(body) != "layer" {
		t.Errorf("pushing again did not heal the layer: %q", body)
	}
}

// TestRequestsFreeNothing: the bytes of what a request deletes are still there
// when it is answered, and go without another request.
func TestRequestsFreeNothing(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	d := s.pushBlob(t, alice, "app", []byte("one"))
	s.pushBlob(t, alice, "gone", []byte("two"))
	s.do(t, call{method: "DELETE", path: "/v2/app/blobs/" + d, as: alice, status: 202})
	if _, err := writer(t, s.store, alice, "gone").Delete(true); err != nil {
		t.Fatal(err)
	}
	if got := files(t, o.Dir, "blobs"); len(got) != 2 {
		t.Errorf("stored: %v", got)
	}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, o.Dir, "blobs"); len(got) != 0 {
		t.Errorf("stored when all that was discarded is freed: %v", got)
	}
}

// TestFolderOfBefore: a folder in which the bytes of all owners are one file works
// as it is, and the bytes go with the last link to them.
func TestFolderOfBefore(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	manifests := map[thaw.TenantID][]byte{}
	for _, as := range []thaw.TenantID{alice, bob} {
		manifests[as] = s.pushImage(t, as, "app", "v1", "a layer of both")
	}
	s.Close()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	shareBytes(t, o.Dir)

	s = startServer(t, o)
	layer, config := digest([]byte("a layer of both")), digest([]byte(`{"os":"linux"}`))
	for as, want := range manifests {
		if _, got := s.do(t, call{method: "GET", path: "/v2/app/manifests/v1", as: as, status: 200}); !bytes.Equal(got, want) {
			t.Errorf("%s: manifest %s", as, got)
		}
		if _, got := s.do(t, call{method: "GET", path: "/v2/app/blobs/" + layer, as: as, status: 200}); string(got) != "a layer of both" {
			t.Errorf("%s: layer %q", as, got)
		}
	}
	// It goes on: mounts, pushes of what is there and deletions.
	s.do(t, call{method: "POST", path: "/v2/mounted/blobs/uploads/?from=app&mount=" + layer, as: alice, status: 201})
	s.pushImage(t, alice, "app", "v2", "a layer of both")
	s.do(t, call{method: "DELETE", path: "/v2/mounted/blobs/" + layer, as: alice, status: 202})
	s.do(t, call{method: "DELETE", path: "/v2/app/blobs/" + layer, as: alice, status: 202})
	s.do(t, call{method: "DELETE", path: "/v2/app/blobs/" + config, as: alice, status: 202})
	if _, got := s.do(t, call{method: "GET", path: "/v2/app/blobs/" + layer, as: bob, status: 200}); string(got) != "a layer of both" {
		t.Errorf("bob's layer is %q when alice has deleted hers", got)
	}
	s.do(t, call{method: "DELETE", path: "/v2/app/blobs/" + layer, as: bob, status: 202})
	if _, err := s.store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, o.Dir, "blobs"); len(got) != 1 || !strings.HasSuffix(got[0], config[len("sha256:"):]) {
		t.Errorf("stored: %v, want bob's config only", got)
	}
}

// shareBytes makes of a folder what versions wrote that kept the bytes for all
// owners: blobs/ALGORITHM/XX/HEX, which all repositories link.
func shareBytes(t *testing.T, dir string) {
	t.Helper()
	for _, path := range files(t, dir, "blobs") {
		algorithm, hex, _ := strings.Cut(filepath.Base(path), "-")
		shared := filepath.Join(dir, "blobs", algorithm, hex[:2], hex)
		if err := os.MkdirAll(filepath.Dir(shared), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "blobs", path), shared); err != nil {
			t.Fatal(err)
		}
		links, err := filepath.Glob(filepath.Join(dir, "repos", "*", "*", "blobs", filepath.Base(path)))
		if err != nil || len(links) == 0 {
			t.Fatalf("%v, %v", links, err)
		}
		for _, link := range links {
			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
			if err := os.Link(shared, link); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, owner := range []thaw.TenantID{alice, bob} {
		if err := os.Remove(filepath.Join(dir, "blobs", string(owner))); err != nil {
			t.Fatal(err)
		}
	}
}
