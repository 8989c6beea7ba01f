package source_test

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

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
		if err := validate.Image(got); err != nil {
			t.Errorf("%s: %v", path, err)
		}
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
