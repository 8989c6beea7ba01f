// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/source"
	"thaw.dev/thaw/internal/testkit"
)

// rawManifest is a manifest to the byte.
type rawManifest struct {
	data      []byte
	mediaType types.MediaType
}

func (m rawManifest) RawManifest() ([]byte, error)        { return m.data, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// imageKind is an image written by hand: what is not said is as usual.
type imageKind struct {
	manifest types.MediaType
	unnamed  bool // the manifest does not say what it is, as OCI permits
	config   types.MediaType
	layer    types.MediaType
	text     string         // of the config; %s stands for the diff id
	extra    map[string]any // fields of the manifest
	refused  string         // what the error says, "" for an image that is taken
}

const (
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
)

// TestKinds resolves images of every media type and odd config that is met.
func TestKinds(t *testing.T) {
	reg := startOwn(t)
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}})
	cases := imageKinds()
	if len(cases) < 50 {
		t.Errorf("%d kinds", len(cases))
	}
	for name, kind := range cases {
		t.Run(name, func(t *testing.T) {
			pushKind(t, reg.host+"/kind:v1", kind)
			image, err := resolver.Resolve(t.Context(), alice, "kind:v1")
			if kind.refused != "" {
				expectError(t, err, thaw.Invalid, kind.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(image.Layers) != 1 || image.Layers[0].MediaType != string(kind.layer) {
				t.Errorf("layers %+v", image.Layers)
			}
		})
	}
}

// imageKinds are the cases by name.
func imageKinds() map[string]imageKind {
	usual := `{"os":"linux","architecture":"` + runtime.GOARCH + `","config":{"Cmd":["/x"]},"rootfs":{"type":"layers","diff_ids":[%s]}}`
	cases := map[string]imageKind{}
	add := func(name string, k imageKind) {
		if k.manifest == "" {
			k.manifest = types.OCIManifestSchema1
		}
		if k.config == "" {
			k.config = ociConfig
		}
		if k.layer == "" {
			k.layer = types.OCILayer
		}
		if k.text == "" {
			k.text = usual
		}
		cases[name] = k
	}
	for _, manifest := range []types.MediaType{types.OCIManifestSchema1, types.DockerManifestSchema2} {
		for _, config := range []types.MediaType{ociConfig, dockerConfig} { // mixed ones exist too
			for _, layer := range []types.MediaType{
				types.OCILayer, types.OCIUncompressedLayer, types.OCILayerZStd, types.DockerLayer, types.DockerUncompressedLayer, "application/vnd.docker.image.rootfs.diff.tar.zstd",
				types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer, types.DockerForeignLayer, "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
			} {
				add(fmt.Sprintf("%s in %s with %s", layer, manifest, config), imageKind{manifest: manifest, config: config, layer: layer})
			}
		}
	}
	for _, layer := range []types.MediaType{
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/vnd.oci.image.layer.v1.tar+bzip2", "application/vnd.oci.image.layer.v1.erofs", "application/vnd.oci.image.layer.v1.squashfs",
		"application/vnd.in-toto+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/vnd.wasm.content.layer.v1+wasm", "application/vnd.docker.plugin.v1+json", "text/plain",
	} {
		add("layer "+string(layer), imageKind{layer: layer, refused: `is not supported: layer 1 of 1, sha256:`})
	}
	for _, config := range []types.MediaType{
		types.OCIEmptyJSON, "application/vnd.cncf.helm.config.v1+json", "application/vnd.docker.plugin.v1+json", "application/vnd.wasm.config.v0+json", "application/vnd.dev.cosign.artifact.sig.v1+json", "application/octet-stream",
	} {
		add("config "+string(config), imageKind{config: config, refused: `is not supported: its config has the media type "` + string(config) + `"`})
	}
	fields := func(more string) string { return strings.Replace(usual, "{", "{"+more+",", 1) }
	add("no media type in the manifest", imageKind{unnamed: true})
	add("artifact type of an image", imageKind{extra: map[string]any{"artifactType": ociConfig}})
	add("annotations and a subject", imageKind{extra: map[string]any{"annotations": map[string]string{"a": "b"},
		"subject": v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 3, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}}}})
	add("unknown fields", imageKind{text: fields(`"moby.buildkit.buildinfo.v1":"e30=","x":{"y":[1,null]}`), extra: map[string]any{"future": 1}})
	add("history", imageKind{text: fields(`"created":"2024-01-01T00:00:00.5+02:00","history":[{"empty_layer":true},{"created_by":"x"}]`)})
	add("no config of the process", imageKind{text: strings.Replace(usual, `"config":{"Cmd":["/x"]}`, `"config":null`, 1)})
	add("health and volumes", imageKind{text: strings.Replace(usual, `{"Cmd"`, `{"Healthcheck":{"Test":["CMD","x"],"Interval":1},"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGINT","Shell":["/bin/sh"],"OnBuild":null,"Cmd"`, 1)})
	add("variant and version", imageKind{text: fields(`"variant":"v8","os.version":"1","os.features":["x"]`)})
	add("no type of the root", imageKind{text: strings.Replace(usual, `"type":"layers",`, "", 1)})
	add("no root", imageKind{text: `{"os":"linux","architecture":"` + runtime.GOARCH + `"}`, refused: "its manifest lists 1 layers, and its config has diff_ids of 0"})
	add("two diff ids", imageKind{text: strings.Replace(usual, "[%s]", "[%[1]s,%[1]s]", 1), refused: "its manifest lists 1 layers, and its config has diff_ids of 2"})
	add("a diff id that is none", imageKind{text: strings.Replace(usual, "[%s]", `["sha256:beef"]`, 1), refused: "its config is malformed"})
	add("an array", imageKind{text: `[]`, refused: "its config is malformed"})
	add("not JSON", imageKind{text: `os: linux`, refused: "its config is malformed"})
	add("nothing", imageKind{text: " ", refused: "its config is malformed"})
	add("another system", imageKind{text: strings.Replace(usual, "linux", "freebsd", 1), refused: "it is for freebsd/" + runtime.GOARCH + ", and this host runs linux/" + runtime.GOARCH})
	add("another architecture", imageKind{text: strings.Replace(usual, runtime.GOARCH, "s390x", 1), refused: "it is for linux/s390x, and this host runs linux/" + runtime.GOARCH})
	return cases
}

// pushKind writes the image to a registry, with the library for the transport only.
func pushKind(t *testing.T, ref string, kind imageKind) {
	t.Helper()
	at := parse(t, ref)
	blob := testkit.PlainLayer(testkit.NewTar(t).File("f", "f").Bytes())
	diffID, err := json.Marshal(blob.DiffID)
	if err != nil {
		t.Fatal(err)
	}
	text := kind.text
	if strings.Contains(text, "%") {
		text = fmt.Sprintf(text, diffID)
	}
	put := func(data []byte, mediaType types.MediaType) v1.Descriptor {
		layer := static.NewLayer(data, mediaType)
		if err := remote.WriteLayer(at.Context(), layer, login(alice), remote.WithNondistributable); err != nil {
			t.Fatal(err)
		}
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return v1.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(data))}
	}
	doc := map[string]any{"schemaVersion": 2, "config": put([]byte(text), kind.config), "layers": []v1.Descriptor{put(blob.Data, kind.layer)}}
	if !kind.unnamed {
		doc["mediaType"] = kind.manifest
	}
	for name, value := range kind.extra {
		doc[name] = value
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Put(at, rawManifest{data, kind.manifest}, login(alice)); err != nil {
		t.Fatal(err)
	}
}
