// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/source"
	"thaw.dev/thaw/internal/testkit"
)

// foreignImage has a layer of a non-distributable media type, with addresses.
func foreignImage(t *testing.T, mediaType types.MediaType) (v1.Image, v1.Hash) {
	t.Helper()
	layer, err := random.Layer(5000, mediaType)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.Append(ociImage(t), mutate.Addendum{Layer: layer, MediaType: mediaType, URLs: []string{"https://registry.invalid/layer"}})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return image, digest
}

// TestPushForeignLayers: what most tools keep out of registries, the image
// can't be run without, so it is pushed where it is there; also into a
// repository that has the manifest without it.
func TestPushForeignLayers(t *testing.T) {
	reg := startOwn(t)
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	for _, mediaType := range []types.MediaType{types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer, types.DockerForeignLayer} {
		image, digest := foreignImage(t, mediaType)
		ref := parse(t, reg.host+"/foreign:v1")
		push(t, ref.String(), image, login(alice)) // as crane does: without the layer
		got, err := resolver.Resolve(t.Context(), alice, ref.String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = got.Layers[3].Open(t.Context())
		expectError(t, err, thaw.Invalid, "layer "+digest.String()+" has the non-distributable media type \""+string(mediaType)+"\", and the registry does not have it")

		loaded, err := source.LoadLocal(writeLayout(t, image))
		if err != nil {
			t.Fatal(err)
		}
		if err := source.Push(t.Context(), "http", ref, loaded, login(alice)); err != nil {
			t.Fatalf("%s: %v", mediaType, err)
		}
		expectImage(t, got, image)
	}
}

// TestPushHeals: a layer that the registry has lost is sent again, although the
// manifest is still there.
func TestPushHeals(t *testing.T) {
	reg := startOwn(t)
	image := ociImage(t)
	ref := parse(t, reg.host+"/app:v1")
	if err := source.Push(t.Context(), "http", ref, image, login(alice)); err != nil {
		t.Fatal(err)
	}
	repo, err := reg.store.Writer(registry.Identity{Tenant: alice}, "app")
	if err != nil {
		t.Fatal(err)
	}
	config, err := partial.ConfigLayer(image)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []partial.Describable{layers[1], config} {
		digest, err := lost.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.DeleteBlob(digest); err != nil {
			t.Fatal(err)
		}
	}
	if err := source.Push(t.Context(), "http", ref, image, login(alice)); err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob(filepath.Join(reg.dir, "repos", "*", "app", "blobs", "sha256-*"))
	if err != nil || len(links) == 0 {
		t.Fatal(links, err)
	}
	for _, link := range links { // behind the registry's back
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	if _, err := resolver.Resolve(t.Context(), alice, ref.String()); thaw.KindOf(err) != thaw.Lost || strings.Contains(thaw.Tell(err), reg.dir) {
		t.Errorf("an image whose layers are lost: %v: %v", thaw.KindOf(err), err)
	}
	if err := source.Push(t.Context(), "http", ref, image, login(alice)); err != nil {
		t.Fatal(err)
	}
	got, err := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}}).Resolve(t.Context(), alice, ref.String())
	if err != nil {
		t.Fatal(err)
	}
	expectImage(t, got, image)
}

// TestLoadLocalLacks tells which layer is not there, in folders and archives,
// before anything is pushed.
func TestLoadLocalLacks(t *testing.T) {
	testkit.RequireTool(t, "tar")
	foreign, digest := foreignImage(t, types.OCIRestrictedLayer)
	plain := ociImage(t)
	layers, err := plain.Layers()
	if err != nil {
		t.Fatal(err)
	}
	lost, err := layers[1].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		image v1.Image
		lost  v1.Hash
		want  string
	}{
		{foreign, digest, "layer " + digest.String() + " is not there; it has the non-distributable media type"},
		{foreign, digest, `is to be had from ["https://registry.invalid/layer"]: put it at blobs/sha256/` + digest.Hex},
		{plain, lost, "layer " + lost.String() + " is not there: make it again"},
	} {
		dir := writeLayout(t, c.image)
		if err := os.Remove(filepath.Join(dir, "blobs", "sha256", c.lost.Hex)); err != nil {
			t.Fatal(err)
		}
		_, err := source.LoadLocal(dir)
		expectError(t, err, thaw.Invalid, c.want)
		archive := filepath.Join(t.TempDir(), "oci.tar")
		runTool(t, "tar", "-C", dir, "-cf", archive, ".")
		_, err = source.LoadLocal(archive)
		expectError(t, err, thaw.Invalid, c.want)
	}
}

// TestLoadLocalNames: an image is found by what containerd and docker call it,
// whose archives may hold several of the same tag.
func TestLoadLocalNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]v1.Image{"docker.io/library/app:latest": ociImage(t), "docker.io/library/other:latest": ociImage(t)}
	for name, image := range images {
		if err := path.AppendImage(image, layout.WithAnnotations(map[string]string{
			"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": name,
		}), layout.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH})); err != nil {
			t.Fatal(err)
		}
	}
	for ref, name := range map[string]string{"app:latest": "app", "app": "app", "other": "other", "docker.io/library/other:latest": "other"} {
		got, err := source.LoadLocal(dir + ":" + ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if digestOf(t, got) != digestOf(t, images["docker.io/library/"+name+":latest"]) {
			t.Errorf("%s is another image", ref)
		}
	}
	_, err = source.LoadLocal(dir)
	expectError(t, err, thaw.Invalid, "it has several images")
	_, err = source.LoadLocal(dir + ":app:v2")
	expectError(t, err, thaw.Invalid, "docker.io/library/app:latest")
}

// TestLoadLocalOtherFolder: skopeo's and buildah's dir: is no OCI layout, and
// the error says how to make one.
func TestLoadLocalOtherFolder(t *testing.T) {
	testkit.RequireTool(t, "skopeo")
	dir := t.TempDir()
	skopeo(t, "oci:"+writeLayout(t, ociImage(t))+":v1", "dir:"+dir)
	_, err := source.LoadLocal(dir)
	expectError(t, err, thaw.Invalid, "skopeo copy dir:")
}

// TestPushKeepsScheme: where HTTPS fails, nothing is sent in the clear, though
// the address is one that the library takes for local.
func TestPushKeepsScheme(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan byte, 100) // of each connection
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				close(first)
				return
			}
			b := make([]byte, 1)
			if _, err := conn.Read(b); err == nil {
				first <- b[0]
			}
			_ = conn.Close()
		}
	}()
	ref, err := name.NewTag(listener.Addr().String() + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Push(t.Context(), "https", ref, ociImage(t), login(alice)); err == nil {
		t.Error("pushed to nobody")
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	const clientHello = 0x16
	n := 0
	for b := range first {
		if n++; b != clientHello {
			t.Errorf("a connection began with %q", b)
		}
	}
	if n == 0 {
		t.Error("nobody called")
	}
}

// TestLoadLocalBuildkit: what `docker save` and buildkit write has an index in
// the layout's own one, attestations in it, and other platforms without their
// blobs; as a folder and as an archive.
func TestLoadLocalBuildkit(t *testing.T) {
	testkit.RequireTool(t, "tar")
	image, other, statement := ociImage(t), ociImage(t), ociImage(t)
	add := func(image v1.Image, os, architecture string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: architecture}}}
	}
	attestation := add(statement, "unknown", "unknown")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digestOf(t, image)}
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, attestation, add(other, "linux", "s390x"), add(image, "linux", runtime.GOARCH))
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"io.containerd.image.name": "docker.io/library/app:v1", "org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	absent, err := other.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", absent.Hex)); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "docker.tar")
	runTool(t, "tar", "-C", dir, "-cf", archive, ".")
	for _, name := range []string{dir, archive, archive + ":app:v1", archive + ":v1"} {
		got, err := source.LoadLocal(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if digestOf(t, got) != digestOf(t, image) {
			t.Errorf("%s is another image", name)
		}
	}
}
