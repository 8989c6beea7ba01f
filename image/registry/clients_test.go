// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"thaw.dev/thaw/internal/testkit"
)

// run runs a client and returns what it printed.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := tryRun(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(name), args, err, out)
	}
	return out
}

func tryRun(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "DOCKER_CONFIG="+filepath.Join(dir, "docker"), "REGISTRY_AUTH_FILE="+filepath.Join(dir, "auth.json"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ociLayout writes an image with layers of three kinds and returns the folder
// and the image.
func ociLayout(t *testing.T) (string, v1.Image) {
	t.Helper()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, n := range []int64{100, 300_000, 2_000_000} {
		layer, err := random.Layer(n, types.OCIUncompressedLayer)
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	return dir, image
}

func digestOfImage(t *testing.T, image v1.Image) string {
	t.Helper()
	h, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// expectLayout checks that a client has pulled exactly this image.
func expectLayout(t *testing.T, dir string, want v1.Image) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.Manifests[0].Digest.String() != digestOfImage(t, want) {
		t.Errorf("pulled %s, want %s", data, digestOfImage(t, want))
	}
}

func TestSkopeo(t *testing.T) {
	testkit.RequireTool(t, "skopeo")
	s := startServer(t, options(t.TempDir()))
	dir, image := ociLayout(t)
	home := t.TempDir()
	remote := "docker://" + s.host()
	run(t, home, "skopeo", "login", "--tls-verify=false", "-u", "key-"+string(alice), "-p", secretOf(alice), s.host())
	run(t, home, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+dir+":v1", remote+"/team/app:v1")
	// A second repository mounts what the first has.
	run(t, home, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", remote+"/team/app:v1", remote+"/team/copy:v1")
	for _, name := range []string{"/team/app:v1", "/team/copy:v1", "/team/app@" + digestOfImage(t, image)} {
		pulled := filepath.Join(t.TempDir(), "pulled")
		run(t, home, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", remote+name, "oci:"+pulled)
		expectLayout(t, pulled, image)
	}
	if out := run(t, home, "skopeo", "list-tags", "--tls-verify=false", remote+"/team/app"); !strings.Contains(out, `"v1"`) {
		t.Errorf("list-tags: %s", out)
	}
	// As docker v2s2, with recompressed layers.
	run(t, home, "skopeo", "copy", "--insecure-policy", "--format", "v2s2", "--src-tls-verify=false", "--dest-tls-verify=false", remote+"/team/app:v1", remote+"/team/docker:v1")
	if out := run(t, home, "skopeo", "inspect", "--raw", "--tls-verify=false", remote+"/team/docker:v1"); !strings.Contains(out, string(types.DockerManifestSchema2)) {
		t.Errorf("v2s2: %s", out)
	}
	if out, err := tryRun(t, home, "skopeo", "inspect", "--no-creds", "--tls-verify=false", remote+"/team/app:v1"); err == nil {
		t.Errorf("without a login: %s", out)
	}
	run(t, home, "skopeo", "delete", "--tls-verify=false", remote+"/team/app:v1")
	if out, err := tryRun(t, home, "skopeo", "inspect", "--tls-verify=false", remote+"/team/app:v1"); err == nil {
		t.Errorf("after delete: %s", out)
	}
	if out, err := tryRun(t, home, "skopeo", "login", "--tls-verify=false", "-u", "key-"+string(alice), "-p", "wrong", s.host()); err == nil {
		t.Errorf("login with a wrong secret: %s", out)
	}
}

// TestAnonymousClients: tools without a login read what is public.
func TestAnonymousClients(t *testing.T) {
	testkit.RequireTool(t, "skopeo")
	s := startServer(t, options(t.TempDir()))
	dir, image := ociLayout(t)
	home := t.TempDir()
	public := s.host() + "/public/base:v1"
	run(t, home, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", "key-"+string(publisher)+":"+secretOf(publisher), "oci:"+dir+":v1", "docker://"+public)
	pulled := filepath.Join(t.TempDir(), "pulled")
	run(t, home, "skopeo", "copy", "--insecure-policy", "--src-no-creds", "--src-tls-verify=false", "docker://"+public, "oci:"+pulled)
	expectLayout(t, pulled, image)
	if got := run(t, home, testkit.GoTool(t, testkit.Crane), "digest", public); strings.TrimSpace(got) != digestOfImage(t, image) {
		t.Errorf("crane digest: %s", got)
	}
}

func TestCrane(t *testing.T) {
	tool := testkit.GoTool(t, testkit.Crane)
	s := startServer(t, options(t.TempDir()))
	dir, image := ociLayout(t)
	home := t.TempDir()
	app := s.host() + "/team/app"
	run(t, home, tool, "auth", "login", s.host(), "-u", "key-"+string(alice), "-p", secretOf(alice))
	run(t, home, tool, "push", dir, app+":v1")
	if got := run(t, home, tool, "digest", app+":v1"); strings.TrimSpace(got) != digestOfImage(t, image) {
		t.Errorf("digest: %s", got)
	}
	run(t, home, tool, "copy", app+":v1", s.host()+"/other:v1")
	run(t, home, tool, "tag", app+":v1", "v2")
	if got := strings.Fields(run(t, home, tool, "ls", app)); strings.Join(got, " ") != "v1 v2" {
		t.Errorf("ls: %v", got)
	}
	if got := strings.Fields(run(t, home, tool, "catalog", s.host())); strings.Join(got, " ") != "other team/app" {
		t.Errorf("catalog: %v", got)
	}
	run(t, home, tool, "validate", "--remote", s.host()+"/other:v1")
	run(t, home, tool, "append", "--oci-empty-base", "-f", tarball(t), "-t", app+":appended")
	run(t, home, tool, "validate", "--remote", app+":appended")
	run(t, home, tool, "index", "append", "-m", app+":v1", "-m", app+":appended", "-t", app+":index")
	run(t, home, tool, "validate", "--remote", app+":index")
	pulled := filepath.Join(home, "pulled")
	run(t, home, tool, "pull", "--format=oci", app+":v1", pulled)
	expectLayout(t, pulled, image)
	run(t, home, tool, "delete", app+":v2")
	if out, err := tryRun(t, home, tool, "digest", app+":v2"); err == nil {
		t.Errorf("after delete: %s", out)
	}
}

// tarball makes a small layer.
func tarball(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "tar", "-cf", "layer.tar", "hello")
	return filepath.Join(dir, "layer.tar")
}

func TestBuildah(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireTool(t, "buildah")
	s := startServer(t, options(t.TempDir()))
	home := t.TempDir()
	store := []string{"--root", filepath.Join(home, "store"), "--runroot", filepath.Join(home, "run"), "--storage-driver", "vfs"}
	buildah := func(args ...string) string { t.Helper(); return run(t, home, "buildah", append(store, args...)...) }
	run(t, home, "buildah", "login", "--tls-verify=false", "-u", "key-"+string(alice), "-p", secretOf(alice), s.host())
	container := strings.TrimSpace(buildah("from", "scratch"))
	buildah("copy", container, tarball(t), "/layer.tar")
	buildah("config", "--entrypoint", `["/x"]`, container)
	app := s.host() + "/team/app:v1"
	buildah("commit", container, app)
	buildah("push", "--tls-verify=false", app)
	buildah("rmi", "--all", "--force")
	buildah("pull", "--tls-verify=false", "--policy", "always", "docker://"+app)
	second := strings.TrimSpace(buildah("from", "--tls-verify=false", "--pull-never", app))
	if out := buildah("inspect", second); !strings.Contains(out, `"/x"`) {
		t.Errorf("the image came back without its entry point: %s", out)
	}
	if out := buildah("images"); !strings.Contains(out, "team/app") {
		t.Errorf("images: %s", out)
	}
}
