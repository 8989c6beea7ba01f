// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/flatten"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/tenant/keys"
)

const (
	tenantA thaw.TenantID = "111111111111"
	tenantB thaw.TenantID = "222222222222"
)

// world is a store and the keys of its tenants.
type world struct {
	*store.Mem
	keys *keys.Local
	temp string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	k, err := keys.OpenLocal(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return &world{Mem: store.NewMem(), keys: k, temp: t.TempDir()}
}

// fresh is another store with the same keys.
func (w *world) fresh(t testing.TB) *world {
	t.Helper()
	return &world{Mem: store.NewMem(), keys: w.keys, temp: w.temp}
}

func (w *world) options() ingest.Options {
	return ingest.Options{Sink: w.Mem, Objects: w.Mem, Keys: w.keys, SaltMaster: w.keys.SaltMaster(),
		Tenant: tenantA, Root: "root1", TempDir: w.temp}
}

func (w *world) mustRun(t testing.TB, o ingest.Options, layers ...ingest.Layer) ingest.Result {
	t.Helper()
	r, err := ingest.Run(t.Context(), layers, "sha256:feed", o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func private(blobs ...testkit.Blob) []ingest.Layer {
	var layers []ingest.Layer
	for _, b := range blobs {
		layers = append(layers, ingesttest.Layer(b, false))
	}
	return layers
}

// names returns the names of all stored chunks, sorted.
func (w *world) names(t testing.TB) []string {
	t.Helper()
	var all []string
	for info, err := range w.Chunks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Name.String())
	}
	slices.Sort(all)
	return all
}

// umoci unpacks an image as the reference does and returns its tree.
func umoci(t *testing.T, layers ...testkit.Blob) map[string]ingesttest.Node {
	t.Helper()
	tree, err := tryUmoci(t, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func tryUmoci(t *testing.T, layers ...testkit.Blob) (map[string]ingesttest.Node, error) {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.RequireTool(t, "umoci")
	dir := t.TempDir()
	testkit.WriteLayout(t, filepath.Join(dir, "oci"), "latest", layers...)
	out, err := exec.CommandContext(t.Context(), "umoci", "unpack", "--image", filepath.Join(dir, "oci")+":latest", filepath.Join(dir, "bundle")).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("umoci: %w\n%s", err, out)
	}
	return ingesttest.ReadTree(t, filepath.Join(dir, "bundle", "rootfs")), nil
}

// mounted returns the tree of an ingested image as the kernel shows it.
func (w *world) mounted(t *testing.T, id thaw.ImageID) map[string]ingesttest.Node {
	t.Helper()
	image := ingesttest.Materialize(t, w, w.keys, id)
	if out, err := exec.CommandContext(t.Context(), "fsck.erofs", image).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
	return ingesttest.ReadTree(t, ingesttest.Mount(t, image))
}

// added says which paths of a tree are mount points that the flattener adds, or
// name the function's user ([TestUserHasAName] has those).
func added(want map[string]ingesttest.Node) func(string) bool {
	points := flatten.AddedMountPoints()
	return func(path string) bool {
		_, had := want[path]
		return !had && slices.Contains(points, "/"+path) || path == "etc/passwd" || path == "etc/group"
	}
}

func report(t *testing.T, lines []string) {
	t.Helper()
	if len(lines) > 0 {
		t.Errorf("%d paths differ:\n%s", len(lines), strings.Join(lines[:min(len(lines), 20)], "\n"))
	}
}

func emptyDir(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left in the temporary folder", e.Name())
	}
}
