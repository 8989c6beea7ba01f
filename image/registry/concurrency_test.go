// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

// TestParallelPushesOfOneBlob: many at once, of two tenants, into the same and
// into different repositories; all of them have it then, and one file is kept.
func TestParallelPushesOfOneBlob(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	data := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() { s.pushBlob(t, []thaw.TenantID{alice, bob}[i%2], fmt.Sprintf("app%d", i%5), data) })
	}
	all.Wait()
	for i := range 10 {
		_, body := s.do(t, call{method: "GET", path: fmt.Sprintf("/v2/app%d/blobs/%s", i%5, digest(data)), as: []thaw.TenantID{alice, bob}[i%2], status: 200})
		if !bytes.Equal(body, data) {
			t.Errorf("app%d has something else", i%5)
		}
	}
	if _, err := s.store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := files(t, o.Dir, "blobs"); len(got) != 2 {
		t.Errorf("stored: %v, want it once for each tenant", got)
	}
}

// TestPushAgainstDelete: blobs that come and go in several repositories while
// others push, mount and clean. Whoever was told that a repository has a blob,
// and did not see it deleted there, reads it whole.
func TestPushAgainstDelete(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	blobs := make([][]byte, 3)
	for i := range blobs {
		blobs[i] = bytes.Repeat([]byte{byte(i + 1)}, 50_000)
	}
	stop := make(chan struct{})
	var cleaner sync.WaitGroup
	cleaner.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.store.Clean(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			repo := fmt.Sprintf("app%d", worker) // one writer each, so that it knows what must be there
			for range 40 {
				data := blobs[random.IntN(len(blobs))]
				if random.IntN(2) == 0 {
					s.pushBlob(t, alice, repo, data)
				} else {
					w, err := s.store.Writer(registry.Identity{Tenant: alice}, repo)
					if err != nil {
						t.Error(err)
						return
					}
					if mounted, err := w.MountAny(registry.Identity{Tenant: alice}, mustHash(t, digest(data))); err != nil {
						t.Error(err)
						return
					} else if !mounted {
						continue
					}
				}
				_, body := s.do(t, call{method: "GET", path: "/v2/" + repo + "/blobs/" + digest(data), as: alice, status: 200})
				if !bytes.Equal(body, data) {
					t.Errorf("%s has something else", repo)
				}
				if random.IntN(3) > 0 {
					s.do(t, call{method: "DELETE", path: "/v2/" + repo + "/blobs/" + digest(data), as: alice, status: 202})
				}
			}
		})
	}
	all.Wait()
	close(stop)
	cleaner.Wait()
}

// TestTagMovesAtOnce: while a tag moves between two images, whoever reads it
// gets one of them.
func TestTagMovesAtOnce(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	first, second := s.pushImage(t, alice, "app", "v1", "one"), s.pushImage(t, alice, "app", "v2", "two")
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		defer close(done)
		for i := range 60 {
			s.do(t, call{method: "PUT", path: "/v2/app/manifests/v1", as: alice, body: [][]byte{first, second}[i%2], status: 201})
		}
	})
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				_, body := s.do(t, call{method: "GET", path: "/v2/app/manifests/v1", as: alice, status: 200})
				if !bytes.Equal(body, first) && !bytes.Equal(body, second) {
					t.Errorf("neither image: %q", body)
				}
			}
		})
	}
	all.Wait()
}

// TestRepositoryDeletedUnderPushes: a repository that is deleted while images
// are pushed to it ends up without anything half-made.
func TestRepositoryDeletedUnderPushes(t *testing.T) {
	o := options(t.TempDir())
	s := startServer(t, o)
	s.pushImage(t, alice, "app", "v0", "zero")
	var all sync.WaitGroup
	for worker := range 3 {
		all.Go(func() {
			w := writer(t, s.store, alice, "app")
			for i := range 15 {
				push(t, w, fmt.Sprintf("%d-%d", worker, i))
			}
		})
	}
	all.Go(func() {
		for range 10 {
			if _, err := writer(t, s.store, alice, "app").Delete(true); err != nil && registry.CodeOf(err) != registry.CodeNameUnknown {
				t.Error(err)
			}
		}
	})
	all.Wait()
	images, err := writer(t, s.store, alice, "app").Images()
	if err != nil && registry.CodeOf(err) != registry.CodeNameUnknown {
		t.Fatal(err)
	}
	for _, image := range images {
		for _, tag := range image.Tags {
			_, body := s.do(t, call{method: "GET", path: "/v2/app/manifests/" + tag, as: alice, status: 200})
			if digest(body) != image.Digest.String() {
				t.Errorf("tag %s is something else", tag)
			}
		}
	}
	if _, err := writer(t, s.store, alice, "app").Delete(true); err != nil && registry.CodeOf(err) != registry.CodeNameUnknown {
		t.Fatal(err)
	}
	if _, err := s.store.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := files(t, o.Dir, "blobs"); len(left) != 0 {
		t.Errorf("blobs left: %v", left)
	}
}

// push pushes an image by the store's API. Parts of it may vanish meanwhile;
// then the push is refused, with one of these codes.
func push(t *testing.T, w *registry.Writer, content string) {
	t.Helper()
	config, layer := []byte(`{"os":"linux"}`), []byte(content)
	for _, data := range [][]byte{config, layer} {
		upload, err := w.StartUpload("sha256")
		if err == nil {
			err = upload.Commit(t.Context(), mustHash(t, digest(data)), registry.Chunk{}, bytes.NewReader(data))
		}
		if !gone(err) {
			t.Error(err)
		}
	}
	if _, err := w.PutManifest(registry.Push{Data: imageOf(config, layer), Tags: []string{content}}); !gone(err) {
		t.Error(err)
	}
}

func gone(err error) bool {
	switch code := registry.CodeOf(err); code {
	case registry.CodeNameUnknown, registry.CodeBlobUploadUnknown, registry.CodeManifestBlobUnknown:
		return true
	}
	return err == nil
}

// TestParallelPushesMakeARepository: the first blobs of a repository come at
// once, and none of them finds half of it.
func TestParallelPushesMakeARepository(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	var all sync.WaitGroup
	for i := range 800 {
		all.Go(func() { s.pushBlob(t, alice, fmt.Sprint("app", i/8), []byte{byte(i % 8)}) })
	}
	all.Wait()
}
