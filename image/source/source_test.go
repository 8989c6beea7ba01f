// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/source"
)

const (
	alice     thaw.TenantID = "111111111111"
	bob       thaw.TenantID = "222222222222"
	publisher thaw.TenantID = "333333333333"
)

// own is our registry on loopback; a tenant's password is its name.
type own struct {
	store *registry.Store
	host  string
	dir   string // of the store
}

func startOwn(t *testing.T) *own {
	t.Helper()
	o := registry.DefaultOptions(t.TempDir())
	o.Publishers = []thaw.TenantID{publisher}
	o.Log = slog.New(slog.DiscardHandler)
	store, err := registry.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	tokens, err := registry.NewTokenIssuer(bytes.Repeat([]byte{1}, 32), currentKey)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(registry.NewHandler(store, registry.BasicAuth(tokens, lookup), tokens))
	t.Cleanup(s.Close)
	return &own{store, strings.TrimPrefix(s.URL, "http://"), o.Dir}
}

// lookup takes a tenant's id for its access key and for its secret.
func lookup(_ context.Context, key string) (string, thaw.TenantID, error) {
	return key, thaw.TenantID(key), nil
}

func currentKey(_ context.Context, t thaw.TenantID) (string, error) { return string(t), nil }

func login(as thaw.TenantID) remote.Option {
	return remote.WithAuth(&authn.Basic{Username: string(as), Password: string(as)})
}

func parse(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func push(t *testing.T, ref string, image v1.Image, opts ...remote.Option) {
	t.Helper()
	if err := remote.Write(parse(t, ref), image, append(opts, remote.WithContext(t.Context()))...); err != nil {
		t.Fatal(err)
	}
}

// imageFor is a random image that says which platform it is for.
func imageFor(t *testing.T, os, arch string, layers int64) v1.Image {
	t.Helper()
	image, err := random.Image(20_000, layers)
	if err != nil {
		t.Fatal(err)
	}
	return withConfig(t, image, func(c *v1.ConfigFile) { c.OS, c.Architecture = os, arch })
}

func withConfig(t *testing.T, image v1.Image, edit func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	edit(config)
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func host(t *testing.T) v1.Image { return imageFor(t, "linux", runtime.GOARCH, 3) }

func digestOf(t *testing.T, image interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// expectImage checks a resolved image against the one that was pushed, layer
// by layer, each opened twice as ingest does.
func expectImage(t *testing.T, got *source.Image, want v1.Image) {
	t.Helper()
	if got.Digest != digestOf(t, want) {
		t.Fatalf("resolved to %s, want %s", got.Digest, digestOf(t, want))
	}
	config, err := want.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := want.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Layers) != len(layers) || got.Config.Architecture != config.Architecture {
		t.Fatalf("%d layers for %q, want %d for %q", len(got.Layers), got.Config.Architecture, len(layers), config.Architecture)
	}
	for i, layer := range got.Layers {
		if layer.Digest != digestOf(t, layers[i]) || layer.DiffID != config.RootFS.DiffIDs[i].String() {
			t.Errorf("layer %d is %s %s", i, layer.Digest, layer.DiffID)
		}
		for range 2 {
			in, err := layer.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			hash := sha256.New()
			n, err := io.Copy(hash, in)
			if err != nil {
				t.Fatal(err)
			}
			if sum := "sha256:" + hex.EncodeToString(hash.Sum(nil)); sum != layer.Digest || n != layer.Bytes {
				t.Errorf("layer %d has %d bytes %s", i, n, sum)
			}
			if err := in.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestResolveOwn(t *testing.T) {
	reg := startOwn(t)
	image := host(t)
	push(t, reg.host+"/team/app:v1", image, login(alice))
	push(t, reg.host+"/team/app", image, login(alice))
	port := reg.host[strings.LastIndexByte(reg.host, ':'):]
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			t.Errorf("asked %s", r.URL) // nothing may leave the host
			return nil, http.ErrNotSupported
		})})
	for _, ref := range []string{
		reg.host + "/team/app:v1", reg.host + "/team/app", "localhost" + port + "/team/app:v1", "LOCALHOST" + port + "/team/app:v1",
		"[::1]" + port + "/team/app:v1", "team/app:v1", "team/app", "team/app@" + digestOf(t, image), "team/app:gone@" + digestOf(t, image),
	} {
		got, err := resolver.Resolve(t.Context(), alice, ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if got.Ref != ref {
			t.Errorf("Ref is %q, want %q", got.Ref, ref)
		}
		expectImage(t, got, image)
		for _, layer := range got.Layers {
			if layer.Public {
				t.Errorf("%s: a private layer is called public", ref)
			}
		}
	}
	_, err := resolver.Resolve(t.Context(), bob, "team/app:v1")
	expectError(t, err, thaw.NotFound, "does not exist. Provide a valid source image")
}

// TestPinned: what was resolved is found again although its tag has moved and
// our registry has another address, and nobody else is asked for it.
func TestPinned(t *testing.T) {
	reg := startOwn(t)
	image := host(t)
	nowhere := roundTripper(func(r *http.Request) (*http.Response, error) {
		t.Errorf("asked %s", r.URL)
		return nil, http.ErrNotSupported
	})
	before := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}, Transport: nowhere})
	after := source.New(source.Options{Store: reg.store, Hosts: []string{"127.0.0.1:1"}, Transport: nowhere})
	for _, repo := range []string{"app", "team/app", "my.team/app", "localhost/app"} {
		push(t, reg.host+"/"+repo+":v1", image, login(alice))
		resolved, err := before.Resolve(t.Context(), alice, reg.host+"/"+repo+":v1")
		if err != nil {
			t.Fatal(err)
		}
		push(t, reg.host+"/"+repo+":v1", host(t), login(alice))
		again, err := after.Resolve(t.Context(), alice, resolved.Pinned)
		if err != nil {
			t.Errorf("%s: %v", resolved.Pinned, err)
			continue
		}
		expectImage(t, again, image)
		if again.Pinned != resolved.Pinned {
			t.Errorf("%s became %s", resolved.Pinned, again.Pinned)
		}
		_, err = after.Resolve(t.Context(), bob, resolved.Pinned)
		expectError(t, err, thaw.NotFound, "does not exist")
	}
}

func expectError(t *testing.T, err error, kind thaw.Kind, text string) {
	t.Helper()
	if err == nil || thaw.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v (%v), want %v with %q", err, thaw.KindOf(err), kind, text)
	}
}

func TestResolveRefusesReferences(t *testing.T) {
	reg := startOwn(t)
	push(t, reg.host+"/app:v1", host(t), login(alice))
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	for ref, want := range map[string]thaw.Kind{
		"":                                      thaw.Invalid,
		"http://" + reg.host + "/app:v1":        thaw.Invalid,
		"docker://app":                          thaw.Invalid,
		"app:":                                  thaw.Invalid,
		"app@sha256:12":                         thaw.Invalid,
		"app@":                                  thaw.Invalid,
		"App:v1":                                thaw.Invalid,
		"a b":                                   thaw.Invalid,
		"../app:v1":                             thaw.Invalid,
		reg.host + "/":                          thaw.Invalid,
		reg.host + "/a//b":                      thaw.Invalid,
		strings.Repeat("a", 2000):               thaw.Invalid,
		strings.Repeat("a", 256):                thaw.Invalid,
		"app:v2":                                thaw.NotFound,
		"app:.":                                 thaw.NotFound,
		"nope":                                  thaw.NotFound,
		"app@sha256:" + strings.Repeat("0", 64): thaw.NotFound,
	} {
		_, err := resolver.Resolve(t.Context(), alice, ref)
		expectError(t, err, want, "Provide a valid source image")
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("a message of %d bytes", len(err.Error()))
		}
	}
}

// TestResolveIndex: of several platforms the host's, of several variants the
// one that surely runs, and never a statement about an image.
func TestResolveIndex(t *testing.T) {
	reg := startOwn(t)
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	foreign := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	right, fast, other, windows, statement := host(t), host(t), imageFor(t, "linux", foreign, 1), imageFor(t, "windows", runtime.GOARCH, 1), host(t)
	add := func(image v1.Image, platform *v1.Platform) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}}
	}
	linux := func(arch, variant string) *v1.Platform {
		return &v1.Platform{OS: "linux", Architecture: arch, Variant: variant}
	}
	statementAddendum := add(statement, linux(runtime.GOARCH, ""))
	statementAddendum.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	unknown := add(statement, &v1.Platform{OS: "unknown", Architecture: "unknown"})
	soci := add(statement, linux(runtime.GOARCH, ""))
	soci.ArtifactType = "application/vnd.amazon.soci.index.v2+json"
	multi := mutate.AppendManifests(empty.Index, statementAddendum, soci, unknown, add(other, linux(foreign, "")),
		add(windows, &v1.Platform{OS: "windows", Architecture: runtime.GOARCH}), add(fast, linux(runtime.GOARCH, "v3")), add(right, linux(runtime.GOARCH, "")))
	for tag, index := range map[string]v1.ImageIndex{
		"multi":   multi,
		"docker":  mutate.IndexMediaType(multi, types.DockerManifestList),
		"nested":  mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: multi}),
		"unnamed": mutate.AppendManifests(empty.Index, add(right, nil)),
		"stated":  mutate.AppendManifests(empty.Index, unknown, soci, add(right, nil)),
		"empty":   mutate.AppendManifests(empty.Index, add(right, &v1.Platform{})),
	} {
		if err := remote.WriteIndex(parse(t, reg.host+"/app:"+tag), index, login(alice)); err != nil {
			t.Fatal(err)
		}
		got, err := resolver.Resolve(t.Context(), alice, "app:"+tag)
		if err != nil {
			t.Errorf("%s: %v", tag, err)
			continue
		}
		expectImage(t, got, right)
	}
	deep := v1.ImageIndex(multi)
	for range 3 {
		deep = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: deep})
	}
	no := "its index has no image for linux/" + runtime.GOARCH + ", only for "
	for want, index := range map[string]v1.ImageIndex{
		no + "[linux/" + foreign + "]":         mutate.AppendManifests(empty.Index, unknown, add(other, linux(foreign, ""))),
		no + "[2 of no platform]":              mutate.AppendManifests(empty.Index, add(right, nil), add(fast, nil)),
		"its index lists no image":             mutate.AppendManifests(empty.Index, unknown, soci),
		"its index is nested more than 3 deep": deep,
	} {
		if err := remote.WriteIndex(parse(t, reg.host+"/app:none"), index, login(alice)); err != nil {
			t.Fatal(err)
		}
		_, err := resolver.Resolve(t.Context(), alice, "app:none")
		expectError(t, err, thaw.Invalid, "Provide a valid source image: "+want)
	}
}

func TestResolveRefusesImages(t *testing.T) {
	reg := startOwn(t)
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	good := host(t)
	helm := mutate.ConfigMediaType(good, "application/vnd.cncf.helm.config.v1+json")
	strange, err := random.Layer(100, "application/vnd.example.layer")
	if err != nil {
		t.Fatal(err)
	}
	odd, err := mutate.AppendLayers(empty.Image, strange)
	if err != nil {
		t.Fatal(err)
	}
	const mediaType = "The image manifest, config or layer media type for the source image bad:v1 is not supported: "
	const other = "Source image bad:v1 is not valid. Provide a valid source image: "
	for want, image := range map[string]v1.Image{
		other + "it is for windows/" + runtime.GOARCH + ", and this host runs linux/":                      imageFor(t, "windows", runtime.GOARCH, 1),
		other + "it is for linux/riscv64, and this host runs linux/":                                       imageFor(t, "linux", "riscv64", 1),
		other + "it has 128 layers, and at most 127":                                                       imageFor(t, "linux", runtime.GOARCH, source.MaxLayers+1),
		other + "its manifest lists 3 layers, and its config has diff_ids of 2":                            withConfig(t, good, func(c *v1.ConfigFile) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[1:] }),
		other + "its config has a root file system of the type \"zfs\"":                                    withConfig(t, good, func(c *v1.ConfigFile) { c.RootFS.Type = "zfs" }),
		mediaType + "its config has the media type \"application/vnd.cncf.helm.config.v1+json\"":           helm,
		mediaType + "its config has the media type \"application/vnd.oci.empty.v1+json\"":                  mutate.ConfigMediaType(good, types.OCIEmptyJSON),
		mediaType + "layer 1 of 1, " + digestOf(t, strange) + ", has the media type \"application/vnd.exa": odd,
	} {
		push(t, reg.host+"/bad:v1", image, login(alice))
		_, err := resolver.Resolve(t.Context(), alice, "bad:v1")
		expectError(t, err, thaw.Invalid, want)
	}
	most := imageFor(t, "linux", runtime.GOARCH, source.MaxLayers)
	push(t, reg.host+"/most:v1", most, login(alice))
	if _, err := resolver.Resolve(t.Context(), alice, "most:v1"); err != nil {
		t.Errorf("%d layers: %v", source.MaxLayers, err)
	}
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	for os, arch := range map[string]string{"": "", "linux": machine, "Linux": runtime.GOARCH} {
		push(t, reg.host+"/named:v1", withConfig(t, good, func(c *v1.ConfigFile) { c.OS, c.Architecture = os, arch }), login(alice))
		if _, err := resolver.Resolve(t.Context(), alice, "named:v1"); err != nil {
			t.Errorf("of the platform %q/%q: %v", os, arch, err)
		}
	}
}

// TestPublicLayers: a layer is public where a public repository has it, in
// whatever image it comes.
func TestPublicLayers(t *testing.T) {
	reg := startOwn(t)
	base := imageFor(t, "linux", runtime.GOARCH, 2)
	named, err := random.Layer(100, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := random.Layer(100, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	app, err := mutate.AppendLayers(base, named, private)
	if err != nil {
		t.Fatal(err)
	}
	push(t, reg.host+"/app:v1", app, login(alice))
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	public := func(ref string, as thaw.TenantID) (flags string) {
		image, err := resolver.Resolve(t.Context(), as, ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range image.Layers {
			flags += fmt.Sprintf("%t ", l.Public)
		}
		return flags
	}
	if got := public("app:v1", alice); got != "false false false false " {
		t.Errorf("before publishing: %s", got)
	}
	push(t, reg.host+"/public/base:v1", base, login(publisher))
	if got := public("app:v1", alice); got != "true true false false " {
		t.Errorf("after publishing: %s", got)
	}
	if got := public("public/base:v1", bob); got != "true true " {
		t.Errorf("the public image: %s", got)
	}
}
