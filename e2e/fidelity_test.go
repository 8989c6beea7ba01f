// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	ocitypes "github.com/google/go-containerregistry/pkg/v1/types"

	"thaw.dev/thaw/image/flatten"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

// seen is a file as the function in bench/images/probe tells of it.
type seen struct {
	Path     string
	Mode     uint32
	UID, GID uint32
	Size     int64
	Mtime    int64
	Links    uint64
	Rdev     uint64
	Target   string
	Hash     string
	Xattrs   map[string]string
}

// TestTreeInsideASandbox compares what a running function sees with what umoci
// unpacks, attribute by attribute. What is different and may be: the places
// where thaw mounts something or has made a place to, and what a process
// without rights can't see (files and folders closed to others, trusted
// attributes, owners beyond its user namespace), which TestFidelity compares on
// the mounted image.
func TestTreeInsideASandbox(t *testing.T) {
	testkit.RequireTool(t, "umoci")
	w := newWorld(t)
	probe := builtImage(t, "probe:1")
	trees := map[string]v1.Image{"probe": probe}
	dir, err := family()
	if err != nil {
		t.Fatal(err)
	}
	for tag, img := range imagesIn(t, dir) {
		trees[tag] = probed(t, img, probe)
	}
	for what, tars := range ingesttest.Cases(t) {
		img := probe
		for _, data := range tars {
			img = appendLayer(t, img, data, ocitypes.OCIUncompressedLayer)
		}
		if what == "opaque root" { // takes the function away too: it goes on top
			img = onTop(t, img)
		}
		trees[what] = img
	}
	n := 0
	for _, what := range slices.Sorted(maps.Keys(trees)) {
		n++
		function := fmt.Sprint("tree", n)
		t.Run(what, func(t *testing.T) {
			w.pushImage(trees[what], function+":v1")
			w.create(t.Context(), function, w.Registry()+"/"+function+":v1")
			compareTrees(t, w.list(t, function), unpack(t, trees[what]))
			w.thaw("rm", function)
		})
	}
}

func appendLayer(t testing.TB, img v1.Image, tar []byte, as ocitypes.MediaType) v1.Image {
	t.Helper()
	out, err := mutate.AppendLayers(img, static.NewLayer(tar, as))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// probed is an image with the program of another on top, which it runs.
func probed(t testing.TB, img, probe v1.Image) v1.Image {
	t.Helper()
	layers, err := probe.Layers()
	if err == nil {
		img, err = mutate.AppendLayers(img, layers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	config, err := probe.ConfigFile()
	if err == nil {
		img, err = mutate.Config(img, config.Config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// onTop adds an image's first layer once more.
func onTop(t testing.TB, img v1.Image) v1.Image {
	t.Helper()
	layers, err := img.Layers()
	if err == nil {
		img, err = mutate.AppendLayers(img, layers[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pushImage pushes an image that a test has made.
func (w *world) pushImage(img v1.Image, repository string) {
	w.t.Helper()
	ref, options := w.reference(repository)
	if err := remote.Write(ref, img, options...); err != nil {
		w.t.Fatal(err)
	}
}

// unpack has umoci unpack an image and returns its tree.
func unpack(t *testing.T, img v1.Image) map[string]ingesttest.Node {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
	if err == nil {
		err = path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "umoci", "unpack", "--image", filepath.Join(dir, "oci")+":latest", filepath.Join(dir, "bundle")).CombinedOutput()
	if err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	return ingesttest.ReadTree(t, filepath.Join(dir, "bundle", "rootfs"))
}

// list has a function list the tree that it runs in.
func (w *world) list(t *testing.T, function string) map[string]seen {
	t.Helper()
	tree := map[string]seen{}
	for from, more := 0, true; more; {
		payload, failed := invoke(t.Context(), t, w.Lambda(w.creds), function, fmt.Sprintf(`{"list":true,"from":%d}`, from))
		var page struct {
			Entries []seen
			More    bool
		}
		if err := json.Unmarshal([]byte(payload), &page); err != nil || failed != "" {
			t.Fatalf("list: %s, %v: %.300s", failed, err, payload)
		}
		for _, e := range page.Entries {
			rel, err := filepath.Rel("/", e.Path)
			if err != nil {
				t.Fatal(err)
			}
			tree[rel] = e
		}
		from, more = from+len(page.Entries), page.More
	}
	return tree
}

// compareTrees brings what umoci made and what the function saw to the one
// form in which they can be compared, and fails for every difference.
func compareTrees(t *testing.T, tree map[string]seen, want map[string]ingesttest.Node) {
	t.Helper()
	got := map[string]ingesttest.Node{}
	for path, e := range tree {
		got[path] = e.node()
	}
	began := time.Now().Add(-time.Hour)
	for path, n := range want {
		n.Same = ""
		n.UID, n.GID = mapped(n.UID), mapped(n.GID)
		n.Xattrs = visible(n.Xattrs, n.Mode)
		if n.Mode&0o170000 == 0o100000 && n.Mode&0o4 == 0 {
			n.Content = "denied"
		}
		var sec, nsec int64
		_, _ = fmt.Sscanf(n.Mtime, "%d.%d", &sec, &nsec)
		if n.Mode&0o170000 == 0o040000 && time.Unix(sec, nsec).After(began) {
			n.Mtime = got[path].Mtime // no layer says it: umoci takes the clock
		}
		want[path] = n
	}
	ours := flatten.AddedMountPoints()
	hidden := func(path string) bool {
		_, had := want[path]
		if !had && slices.Contains(ours, "/"+path) {
			return true
		}
		for _, mounted := range []string{"proc", "sys", "dev", "tmp", "etc/hosts", "etc/resolv.conf", "etc/passwd", "etc/group"} {
			if path == mounted || strings.HasPrefix(path, mounted+"/") {
				return true
			}
		}
		if path == "." {
			return false
		}
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			if d, ok := want[dir]; ok && d.Mode&0o5 != 0o5 {
				return true
			}
			if dir == "." {
				return false
			}
		}
	}
	compared := 0
	for path := range want {
		if !hidden(path) {
			compared++
		}
	}
	lines := ingesttest.Diff(got, want, hidden)
	if len(lines) > 20 {
		lines = append(lines[:20], fmt.Sprintf("and %d more", len(lines)-20))
	}
	for _, line := range lines {
		t.Error(line)
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
}

func (e seen) node() ingesttest.Node {
	n := ingesttest.Node{Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size, Rdev: e.Rdev, Nlink: e.Links, Target: e.Target, Content: e.Hash,
		Mtime: fmt.Sprintf("%d.%09d", floorDiv(e.Mtime, 1e9), e.Mtime-floorDiv(e.Mtime, 1e9)*1e9)}
	switch e.Mode & 0o170000 {
	case 0o040000:
		n.Nlink = 0
	case 0o120000:
		n.Size = int64(len(e.Target))
	}
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(&all, "%s=%s ", name, e.Xattrs[name])
	}
	n.Xattrs = visible(all.String(), e.Mode)
	return n
}

// mapped is how a sandbox, whose user namespace has the ids of 16 bits, sees an
// owner: the kernel shows others as "nobody".
func mapped(id uint32) uint32 {
	if id > 65535 {
		return 65534
	}
	return id
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// visible are the attributes that a process without rights may read.
func visible(xattrs string, mode uint32) string {
	var kept strings.Builder
	for _, x := range strings.Fields(xattrs) {
		closed := strings.HasPrefix(x, "trusted.") || strings.HasPrefix(x, "user.") && mode&0o4 == 0
		if !closed {
			kept.WriteString(x + " ")
		}
	}
	return kept.String()
}
