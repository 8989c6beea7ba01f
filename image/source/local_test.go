// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/source"
	"thaw.dev/thaw/internal/testkit"
)

// writeLayout writes an OCI layout with one image named "v1" and, if given, a
// second one named "v2".
func writeLayout(t *testing.T, images ...v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for i, image := range images {
		if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": []string{"v1", "v2"}[i]})); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// ociImage is like host, in OCI's media types: all that other tools take from
// an OCI layout.
func ociImage(t *testing.T) v1.Image {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for range 3 {
		layer, err := random.Layer(20_000, types.OCIUncompressedLayer)
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	return withConfig(t, image, func(c *v1.ConfigFile) { c.OS, c.Architecture = "linux", runtime.GOARCH })
}

// skopeo copies from one place to another.
func skopeo(t *testing.T, from, to string) {
	t.Helper()
	runTool(t, "skopeo", "copy", "--quiet", "--insecure-policy", from, to)
}

func runTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// TestLoadLocal opens every local form, as made by another tool, checks all
// that the image claims of itself, and pushes it.
func TestLoadLocal(t *testing.T) {
	testkit.RequireTool(t, "skopeo")
	reg := startOwn(t)
	image := ociImage(t)
	dir := writeLayout(t, image)
	tmp := t.TempDir()
	skopeo(t, "oci:"+dir+":v1", "oci-archive:"+tmp+"/oci.tar:v1")
	skopeo(t, "oci:"+dir+":v1", "docker-archive:"+tmp+"/docker.tar:app:v1")
	colon := filepath.Join(tmp, "a:b")
	if err := os.Rename(writeLayout(t, image), colon); err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	for _, path := range []string{dir, dir + ":v1", colon, colon + ":v1", tmp + "/oci.tar", tmp + "/oci.tar:v1", tmp + "/docker.tar", tmp + "/docker.tar:app:v1"} {
		got, err := source.LoadLocal(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		expectDiffIDs(t, path, got)
		if gotConfig, err := got.ConfigName(); err != nil || gotConfig != config {
			t.Errorf("%s: config %v, %v; want %v", path, gotConfig, err, config)
		}
		push(t, reg.host+"/local:v1", got, login(alice))
		resolved, err := resolver.Resolve(t.Context(), alice, "local:v1")
		if err != nil {
			t.Fatal(err)
		}
		expectImage(t, resolved, got)
	}
}

// expectDiffIDs checks that each layer has the bytes that the config says.
func expectDiffIDs(t *testing.T, path string, image v1.Image) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, layer := range layers {
		in, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := v1.SHA256(in)
		if closed := in.Close(); err != nil || closed != nil {
			t.Fatal(err, closed)
		}
		if got != config.RootFS.DiffIDs[i] {
			t.Errorf("%s: layer %d is %s, want %s", path, i, got, config.RootFS.DiffIDs[i])
		}
	}
}

// TestLoadDockerArchives: archives as docker wrote and writes them, and others:
// equal layers as links, layers compressed or not, each taken as it lies there.
func TestLoadDockerArchives(t *testing.T) {
	reg := startOwn(t)
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	plain := testkit.PlainLayer(testkit.NewTar(t).File("f", "f").Bytes())
	gz := testkit.GzipLayer(t, testkit.NewTar(t).File("g", "g").Bytes())
	zst := testkit.ZstdLayer(t, testkit.NewTar(t).File("z", "z").Bytes())
	config := fmt.Sprintf(`{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":[%q,%q,%q,%q,%q]}}`, runtime.GOARCH, plain.DiffID, gz.DiffID, plain.DiffID, zst.DiffID, plain.DiffID)
	manifest := `[{"Config":"c.json","RepoTags":["app:v1"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar","./4.tar","5/layer.tar"]}]`
	write := func(manifest string) string {
		b := testkit.NewTar(t).File("c.json", config).File("1/layer.tar", string(plain.Data)).File("./2/layer.tar", string(gz.Data)).
			Symlink("3/layer.tar", "../1/layer.tar").File("4.tar", string(zst.Data)).Link("5/layer.tar", "3/layer.tar").
			Symlink("round/a", "b").Symlink("round/b", "a").File("manifest.json", manifest)
		file := filepath.Join(t.TempDir(), "docker.tar")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	file := write(manifest)
	for _, name := range []string{"", ":app:v1", ":docker.io/library/app:v1"} {
		image, err := source.LoadLocal(file + name)
		if err != nil {
			t.Fatal(err)
		}
		expectDiffIDs(t, name, image)
		if err := source.Push(t.Context(), "http", parse(t, reg.host+"/docker:v1"), image, login(alice)); err != nil {
			t.Fatal(err)
		}
		got, err := resolver.Resolve(t.Context(), alice, "docker:v1")
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{plain.Digest, gz.Digest, plain.Digest, zst.Digest, plain.Digest} {
			if got.Layers[i].Digest != want {
				t.Errorf("layer %d was pushed as %s, want %s as it lies in the archive", i, got.Layers[i].Digest, want)
			}
		}
	}
	for name, want := range map[string]string{
		file + ":app:v2": `it has no image named "app:v2", only [app:v1]`,
		write(strings.Replace(manifest, `"2/layer.tar",`, "", 1)):                              "its manifest.json lists 4 layers, and its config has diff_ids of 5",
		write(strings.Replace(manifest, "5/layer", "6/layer", 1)):                              "has no 6/layer.tar",
		write(strings.Replace(manifest, "5/layer.tar", "round/a", 1)):                          "has no round/a",
		write(strings.Replace(manifest, "}]", `},{"Config":"c.json","RepoTags":["b:1"]}]`, 1)): "it has 2 images: append one of [:app:v1, :b:1] to the path",
		write(`{}`): "its manifest.json is malformed",
	} {
		_, err := source.LoadLocal(name)
		expectError(t, err, thaw.Invalid, want)
	}
}

func TestLoadLocalChooses(t *testing.T) {
	first, second := host(t), host(t)
	dir := writeLayout(t, first, second)
	for name, want := range map[string]v1.Image{":v1": first, ":v2": second} {
		got, err := source.LoadLocal(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		if digestOf(t, got) != digestOf(t, want) {
			t.Errorf("%s is the other image", name)
		}
	}
	_, err := source.LoadLocal(dir)
	expectError(t, err, thaw.Invalid, "append one of [:v1, :v2]")
	_, err = source.LoadLocal(dir + ":v3")
	expectError(t, err, thaw.Invalid, `no image named "v3"`)

	other := imageFor(t, "linux", map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH], 1)
	multi := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "riscv64"}}},
		mutate.IndexAddendum{Add: first, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	path := filepath.Join(t.TempDir(), "multi")
	if _, err := layout.Write(path, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: multi})); err != nil {
		t.Fatal(err)
	}
	got, err := source.LoadLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, got) != digestOf(t, first) {
		t.Error("the index was not resolved to this host's platform")
	}
}

func TestLoadLocalRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, write func(*os.File) error) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	entry := func(f *os.File, name, text string) error {
		w := tar.NewWriter(f)
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600}); err != nil {
			return err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return w.Close()
	}
	docker := filepath.Join(dir, "docker.tar")
	tag, err := name.NewTag("app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(docker, tag, host(t)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		kind thaw.Kind
		text string
	}{
		filepath.Join(dir, "nothing"): {thaw.NotFound, "no file or folder"},
		"":                            {thaw.NotFound, "no file or folder"},
		dir:                           {thaw.Invalid, "holds no image"},
		docker + ":other:v1":          {thaw.Invalid, "holds no image"},
		file("text", func(f *os.File) error { _, err := f.WriteString("hello, world"); return err }):      {thaw.Invalid, "it is no tar"},
		file("empty", func(*os.File) error { return nil }):                                                {thaw.Invalid, "it is no tar"},
		file("zip.tar.gz", func(f *os.File) error { return gzip.NewWriter(f).Close() }):                   {thaw.Invalid, "decompress it first"},
		file("other.tar", func(f *os.File) error { return entry(f, "a", "b") }):                           {thaw.Invalid, "neither index.json nor manifest.json"},
		file("noindex.tar", func(f *os.File) error { return entry(f, "index.json", `{"manifests":[]}`) }): {thaw.Invalid, "index is empty"},
		file("badindex.tar", func(f *os.File) error { return entry(f, "index.json", `{`) }):               {thaw.Invalid, "holds no image"},
	} {
		_, err := source.LoadLocal(path)
		expectError(t, err, want.kind, want.text)
	}
}
