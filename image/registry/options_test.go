// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"thaw.dev/thaw/internal/testkit"
)

// expectWhole reads what was pushed, all of it, and checks every digest that it
// claims; of an index each image. It returns the media types of the layers.
func expectWhole(t *testing.T, ref string) []string {
	t.Helper()
	parsed, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Get(parsed, remote.WithContext(t.Context()), remote.WithAuth(&authn.Basic{Username: "key-" + string(alice), Password: secretOf(alice)}))
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	if !got.MediaType.IsIndex() {
		image, err := got.Image()
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		return expectLayers(t, image)
	}
	index, err := got.ImageIndex()
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	doc, err := index.IndexManifest()
	if err != nil || len(doc.Manifests) == 0 {
		t.Fatalf("%s: %v of %+v", ref, err, doc)
	}
	for _, d := range doc.Manifests {
		if d.MediaType.IsIndex() {
			continue
		}
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		expectLayers(t, image)
	}
	return nil
}

// expectLayers reads layers and config; the library checks their digests.
func expectLayers(t *testing.T, image v1.Image) (mediaTypes []string) {
	t.Helper()
	if _, err := image.ConfigFile(); err != nil {
		t.Error(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		in, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, in); err != nil {
			t.Error(err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		mediaType, err := layer.MediaType()
		if err != nil {
			t.Fatal(err)
		}
		mediaTypes = append(mediaTypes, string(mediaType))
	}
	return mediaTypes
}

// TestCraneOptions goes through crane's commands that write.
func TestCraneOptions(t *testing.T) {
	tool := testkit.GoTool(t, testkit.Crane)
	s := startServer(t, options(t.TempDir()))
	dir, image := ociLayout(t)
	home, layer := t.TempDir(), tarball(t)
	crane := func(args ...string) string { t.Helper(); return run(t, home, tool, args...) }
	crane("auth", "login", s.host(), "-u", "key-"+string(alice), "-p", secretOf(alice))
	app := s.host() + "/options/app"
	base := s.host() + "/options/base"
	for _, args := range []string{
		"push " + dir + " BASE:v1",
		"push --insecure --image-refs " + home + "/refs " + dir + " APP:pushed",
		"append -b BASE:v1 -f " + layer + " -t BASE:v2",
		"append -b BASE:v1 -f " + layer + " -t APP:v1 --set-base-image-annotations",
		"append -b BASE:v1 -f " + layer + " -f " + layer + " -t APP:twice",
		"mutate APP:v1 --entrypoint /x --cmd y --label a=b --annotation c=d --env E=1 --user 5 --workdir /w --set-platform linux/amd64 -t APP:v2",
		"flatten APP:v2 -t APP:flat",
		"rebase APP:v1 --old_base BASE:v1 --new_base BASE:v2 -t APP:rebased",
		"tag APP:v2 v3",
		"index append -m APP:v1 -m BASE:v2 -t APP:index",
		"index append APP:index -m APP:v2 -t APP:index2",
		"index filter APP:index --platform linux/amd64 -t APP:index3",
		"copy APP:v1 OTHER/copied:v1",
		"copy --platform linux/amd64 APP:index OTHER/one:v1",
		"copy APP:index OTHER/index:v1",
		"copy --all-tags --jobs 2 APP OTHER/all",
		"pull --format=tarball APP:v1 " + home + "/docker.tar",
		"push " + home + "/docker.tar OTHER/docker:v1",
		"pull --format=legacy APP:v1 " + home + "/legacy.tar",
		"push " + home + "/legacy.tar OTHER/legacy:v1",
		"pull --format=oci APP:index " + home + "/index",
		"push --index " + home + "/index OTHER/layout:v1",
		"export APP:v2 " + home + "/tree.tar",
	} {
		args = strings.NewReplacer("APP", app, "BASE", base, "OTHER", s.host()+"/options").Replace(args)
		crane(strings.Fields(args)...)
		if fields := strings.Fields(args); strings.HasPrefix(fields[0], "pu") || fields[0] == "append" || fields[0] == "copy" {
			if target := fields[len(fields)-1]; strings.HasPrefix(target, s.host()) && strings.Contains(target[len(s.host()):], ":") {
				expectWhole(t, target)
			}
		}
	}
	for _, tag := range []string{"pushed", "v1", "twice", "v2", "v3", "flat", "rebased", "index", "index2", "index3"} {
		expectWhole(t, app+":"+tag)
	}
	if got, want := strings.TrimSpace(crane("digest", app+":pushed")), digestOfImage(t, image); got != want {
		t.Errorf("pushed %s, want %s", got, want)
	}
	if out, err := tryRun(t, home, tool, "copy", "--no-clobber", app+":v1", app+":v2"); err == nil || !strings.Contains(out, "refusing to clobber") {
		t.Errorf("--no-clobber: %v\n%s", err, out)
	}
	crane("delete", app+":v3")
	if out, err := tryRun(t, home, tool, "manifest", app+":v3"); err == nil || !strings.Contains(out, "MANIFEST_UNKNOWN") {
		t.Errorf("after delete: %v\n%s", err, out)
	}
}

// TestBuildahOptions pushes with every format and compression that buildah has,
// each time other bytes: what it knows to be there it does not compress anew.
func TestBuildahOptions(t *testing.T) {
	testkit.RequireRoot(t)
	for _, tool := range []string{"buildah", "openssl"} {
		testkit.RequireTool(t, tool)
	}
	s := startServer(t, options(t.TempDir()))
	home := t.TempDir()
	store := []string{"--root", filepath.Join(home, "store"), "--runroot", filepath.Join(home, "run"), "--storage-driver", "vfs"}
	buildah := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(run(t, home, "buildah", append(store, args...)...))
	}
	made := 0
	commit := func() string {
		made++
		file := filepath.Join(home, "file")
		if err := os.WriteFile(file, []byte(strings.Repeat("unlike others: "+strconv.Itoa(made), 20_000)), 0o600); err != nil {
			t.Fatal(err)
		}
		container := buildah("from", "scratch")
		buildah("copy", "--quiet", container, file, "/file")
		return buildah("commit", "--quiet", container)
	}
	buildah("login", "--tls-verify=false", "-u", "key-"+string(alice), "-p", secretOf(alice), s.host())
	run(t, home, "openssl", "genrsa", "-out", "key.pem", "2048")
	run(t, home, "openssl", "rsa", "-in", "key.pem", "-pubout", "-out", "public.pem")
	const oci, docker = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
	for i, c := range []struct{ options, layer string }{
		{"--format oci", oci + "+gzip"},
		{"--format oci --compression-format gzip --compression-level 9", oci + "+gzip"},
		{"--format oci --compression-format zstd --compression-level 19", oci + "+zstd"},
		{"--format oci --compression-format zstd:chunked", oci + "+zstd"},
		{"--format v2s2 --compression-format gzip", docker + ".gzip"},
		{"--digestfile digest --retry 1 --retry-delay 1s --remove-signatures", oci + "+gzip"},
		{"--encryption-key jwe:public.pem", oci + "+gzip+encrypted"},
		{"--encryption-key jwe:public.pem --encrypt-layer -1", oci + "+gzip+encrypted"},
	} {
		ref := s.host() + "/buildah/app:v" + strconv.Itoa(i)
		args := append([]string{"push", "--quiet", "--tls-verify=false"}, strings.Fields(c.options)...)
		buildah(append(args, commit(), ref)...)
		if strings.HasSuffix(c.layer, "+encrypted") {
			continue // it can't be read without the key; whoever creates a function is told
		}
		if got := expectWhole(t, ref); len(got) != 1 || got[0] != c.layer {
			t.Errorf("%s: layers %v, want %s", c.options, got, c.layer)
		}
	}
	out, err := tryRun(t, home, "buildah", append(store, "push", "--tls-verify=false", "--format", "v2s1", commit(), s.host()+"/buildah/old:v1")...)
	if err == nil || !strings.Contains(out, "schema 1 manifests are not supported") {
		t.Errorf("schema 1: %v\n%s", err, out)
	}
	buildah("manifest", "create", "list")
	buildah("manifest", "add", "list", commit())
	buildah("manifest", "add", "--tls-verify=false", "--all", "list", "docker://"+s.host()+"/buildah/app:v0")
	for i, format := range []string{"oci", "v2s2"} {
		ref := s.host() + "/buildah/list:v" + strconv.Itoa(i)
		buildah("manifest", "push", "--quiet", "--tls-verify=false", "--all", "--format", format, "list", "docker://"+ref)
		expectWhole(t, ref)
	}
	for _, lines := range []string{
		"copy --quiet --all --preserve-digests --src-tls-verify=false --dest-tls-verify=false docker://HOST/buildah/list:v0 docker://HOST/skopeo/list:v1",
		"copy --quiet --multi-arch all --src-tls-verify=false --dest-tls-verify=false docker://HOST/buildah/list:v1 docker://HOST/skopeo/list:v2",
		"copy --quiet --dest-compress-format zstd --dest-compress-level 3 --src-tls-verify=false --dest-tls-verify=false docker://HOST/buildah/app:v0 docker://HOST/skopeo/app:v1",
		"sync --src docker --dest dir --src-tls-verify=false HOST/skopeo/app HOME/sync",
		"sync --src dir --dest docker --dest-tls-verify=false HOME/sync HOST/synced",
		"sync --all --src docker --dest docker --src-tls-verify=false --dest-tls-verify=false HOST/skopeo/list HOST/all",
	} {
		run(t, home, "skopeo", append([]string{"--insecure-policy"}, strings.Fields(strings.NewReplacer("HOST", s.host(), "HOME", home).Replace(lines))...)...)
	}
	for _, ref := range []string{"/skopeo/list:v1", "/skopeo/list:v2", "/skopeo/app:v1", "/synced/app:v1", "/all/list:v1", "/all/list:v2"} {
		expectWhole(t, s.host()+ref)
	}
}

// TestORAS has ORAS push artifacts that are no images, with the empty config and
// of a kind of their own, attach one to an image, and find and fetch them.
func TestORAS(t *testing.T) {
	tool := testkit.GoTool(t, testkit.ORAS)
	s := startServer(t, options(t.TempDir()))
	dir, image := ociLayout(t)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "sbom.json"), []byte(`{"sbom":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	oras := func(line string) string {
		t.Helper()
		line = strings.NewReplacer("APP", s.host()+"/oras/app", "HOST", s.host(), "LAYOUT", dir).Replace(line)
		return run(t, home, tool, strings.Fields(line)...)
	}
	oras("login HOST --plain-http -u key-" + string(alice) + " -p " + secretOf(alice))
	oras("cp --from-oci-layout LAYOUT:v1 APP:v1 --to-plain-http")
	if got := strings.TrimSpace(oras("resolve --plain-http APP:v1")); got != digestOfImage(t, image) {
		t.Errorf("resolve: %s", got)
	}
	oras("push --plain-http --artifact-type application/vnd.example.config APP:config sbom.json:application/json --annotation a=b")
	oras("attach --plain-http --artifact-type application/vnd.example.sbom APP:v1 sbom.json:application/json")
	oras("attach --plain-http --artifact-type application/vnd.example.signature APP:v1 sbom.json:application/json")
	out := oras("discover --plain-http --format json APP:v1")
	for _, kind := range []string{"application/vnd.example.sbom", "application/vnd.example.signature"} {
		if !strings.Contains(out, kind) {
			t.Errorf("discover does not find %s: %s", kind, out)
		}
	}
	if out := oras("discover --plain-http --format json --artifact-type application/vnd.example.sbom APP:v1"); strings.Contains(out, "example.signature") {
		t.Errorf("discover does not filter: %s", out)
	}
	oras("cp -r --from-plain-http --to-plain-http APP:v1 HOST/oras/copy:v1")
	if out := oras("discover --plain-http --format json HOST/oras/copy:v1"); !strings.Contains(out, "example.signature") {
		t.Errorf("the copy has no referrers: %s", out)
	}
	oras("tag --plain-http APP:config other")
	oras("manifest index create --plain-http APP:index v1 config")
	oras("blob push --plain-http HOST/oras/app sbom.json")
	oras("pull --plain-http APP:other -o pulled")
	if got, err := os.ReadFile(filepath.Join(home, "pulled", "sbom.json")); err != nil || string(got) != `{"sbom":true}` {
		t.Errorf("pulled %q, %v", got, err)
	}
	if out := oras("repo tags --plain-http HOST/oras/app"); !strings.Contains(out, "index") {
		t.Errorf("tags: %s", out)
	}
	oras("manifest delete --plain-http --force APP:other")
}
