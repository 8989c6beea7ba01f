// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"thaw.dev/thaw/image/registry"
)

// TestWhatIsUnknownReadsManifestsOnce: each push of something new asks for what
// the repository does not have, and that must not cost as much as its owner has
// manifests. Here they can't be read any more after the first time.
func TestWhatIsUnknownReadsManifestsOnce(t *testing.T) {
	w := newLostWorld(t)
	unknown := func(digit string) string { return "blobs/sha256:" + strings.Repeat(digit, 64) }
	w.both(t, unknown("0"), 404)
	restore := w.hideManifests(t)
	w.both(t, unknown("1"), 404)
	restore()
	w.remove(t, "repos/*/app/blobs/"+file(w.layer))
	w.expect(t, "blobs/"+w.layer, 500, 404)
}

// hideManifests makes the repository's manifests unreadable, until the function
// that it returns is called.
func (w *lostWorld) hideManifests(t *testing.T) (restore func()) {
	t.Helper()
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
	return func() {
		t.Helper()
		for _, path := range manifests {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDeleteReadsNoManifest: deleting a blob that manifests name costs the same
// however many there are, and what is marked for it goes with the cleaning.
func TestDeleteReadsNoManifest(t *testing.T) {
	w := newLostWorld(t)
	restore := w.hideManifests(t)
	w.do(t, call{method: "DELETE", path: "/v2/app/blobs/" + w.layer, as: alice, status: 202})
	w.both(t, "blobs/"+w.layer, 404)
	restore()
	w.both(t, "blobs/"+w.layer, 404)
	marks := func() []string {
		found, err := filepath.Glob(filepath.Join(w.dir, "repos/*/app/*/*.deleted"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	clean := func() {
		if _, err := w.store.Clean(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if clean(); len(marks()) != 1 {
		t.Errorf("marks %q, want one while the manifest names the blob", marks())
	}
	w.both(t, "blobs/"+w.layer, 404)
	for _, manifest := range []string{w.index, w.img} {
		w.do(t, call{method: "DELETE", path: "/v2/app/manifests/" + manifest, as: alice, status: 202})
	}
	if clean(); len(marks()) != 0 {
		t.Errorf("marks %q, want none when nothing names what was deleted", marks())
	}
	w.both(t, "blobs/"+w.layer, 404)
	w.both(t, "manifests/"+w.img, 404)
}

// TestDigestsCantBeChosenToCost: a digest that begins like one that is named
// costs no look at the manifests.
func TestDigestsCantBeChosenToCost(t *testing.T) {
	w := newLostWorld(t)
	w.both(t, "blobs/sha256:"+strings.Repeat("0", 64), 404)
	restore := w.hideManifests(t)
	w.both(t, "blobs/"+w.layer[:len("sha256:")+32]+strings.Repeat("0", 32), 404)
	restore()
}

// TestIndexesAreSharedByOwners: a tenant who asks about more repositories than
// there is memory for does not cost another what is remembered of its own.
func TestIndexesAreSharedByOwners(t *testing.T) {
	w := newLostWorld(t)
	w.both(t, "blobs/sha256:"+strings.Repeat("0", 64), 404)
	for i := range 300 {
		repo := fmt.Sprintf("r%d", i)
		if _, err := writer(t, w.store, bob, repo).Create(registry.Settings{}); err != nil {
			t.Fatal(err)
		}
		w.do(t, call{method: "HEAD", path: "/v2/" + repo + "/blobs/" + unknownDigest, as: bob, status: 404})
	}
	restore := w.hideManifests(t)
	w.both(t, "blobs/sha256:"+strings.Repeat("1", 64), 404)
	restore()
}

// TestManifestReadsHaveTurns: while a tenant has its manifests read in as many
// repositories as it can, another's are read.
func TestManifestReadsHaveTurns(t *testing.T) {
	const repos = 20
	w := newLostWorld(t)
	pipe := func(i int) string {
		return filepath.Join(w.dir, "repos", string(bob), fmt.Sprintf("r%d", i), "manifests", strings.Replace(unknownDigest, ":", "-", 1))
	}
	if _, err := writer(t, w.store, alice, "new").Create(registry.Settings{}); err != nil {
		t.Fatal(err)
	}
	var asked sync.WaitGroup
	for i := range repos {
		if _, err := writer(t, w.store, bob, fmt.Sprintf("r%d", i)).Create(registry.Settings{}); err != nil {
			t.Fatal(err)
		}
		// Reading it lasts until somebody writes.
		if err := syscall.Mkfifo(pipe(i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range repos {
		asked.Go(func() {
			_, _ = writer(t, w.store, bob, fmt.Sprintf("r%d", i)).StatBlob(mustHash(t, w.layer)) // only that it takes long matters
		})
	}
	pool := w.store.Pools()[0]
	for u := pool.Usage(); int64(u.Waiting)+u.Held < repos; u = pool.Usage() {
		time.Sleep(time.Millisecond)
	}
	w.do(t, call{method: "HEAD", path: "/v2/new/blobs/" + unknownDigest, as: alice, status: 404})
	ended := make(chan struct{})
	go func() { asked.Wait(); close(ended) }()
	for i := 0; ; i = (i + 1) % repos {
		select {
		case <-ended:
			return
		default:
			// Nobody reads a pipe before its turn.
			if fd, err := syscall.Open(pipe(i), syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0); err == nil {
				_ = syscall.Close(fd) // the reader sees the end
			}
		}
	}
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
