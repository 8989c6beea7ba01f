// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
)

// maxIndexDepth bounds indexes of indexes.
const maxIndexDepth = 3

// baseline is the variant of an architecture that every machine of it runs.
func baseline(architecture string) string {
	switch architecture {
	case "amd64":
		return "v1"
	case "arm64":
		return "v8"
	}
	return ""
}

// resolvePlatform returns the manifest of an image for this host: the one that
// is asked for, or the fitting one of an index.
func resolvePlatform(ctx context.Context, repo repository, target string) (manifest, error) {
	for range maxIndexDepth {
		m, err := repo.manifest(ctx, target)
		if err != nil {
			return m, err
		}
		switch mediaType := types.MediaType(m.mediaType); {
		case mediaType.IsImage():
			return m, nil
		case mediaType.IsSchema1():
			return m, unsupportedf("it is a docker schema 1 image; push it again with a current tool")
		case !mediaType.IsIndex():
			return m, unsupportedf("its manifest has the media type %q", m.mediaType)
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(m.data, &index); err != nil {
			return m, unusablef("its index is malformed: %v", err)
		}
		if target, err = choose(index.Manifests); err != nil {
			return m, err
		}
	}
	return manifest{}, unusablef("its index is nested more than %d deep", maxIndexDepth)
}

// choose returns the digest of the image for this host. Among several variants
// of the architecture it takes the one that surely runs.
func choose(list []v1.Descriptor) (string, error) {
	var fitting, unnamed []v1.Descriptor
	var others []string
	for _, d := range list {
		switch {
		case !isImage(d):
		case d.Platform == nil || d.Platform.OS == "" && d.Platform.Architecture == "":
			unnamed = append(unnamed, d)
		case runsHere(d.Platform.OS, d.Platform.Architecture):
			fitting = append(fitting, d)
		default:
			others = append(others, d.Platform.String())
		}
	}
	for _, d := range fitting {
		if v := d.Platform.Variant; v == "" || v == baseline(runtime.GOARCH) {
			return d.Digest.String(), nil
		}
	}
	switch {
	case len(fitting) > 0:
		return fitting[0].Digest.String(), nil
	case len(unnamed) == 1 && len(others) == 0:
		return unnamed[0].Digest.String(), nil // its config will tell
	case len(unnamed) > 1:
		others = append(others, fmt.Sprintf("%d of no platform", len(unnamed)))
	case len(others) == 0:
		return "", unusablef("its index lists no image")
	}
	return "", unusablef("its index has no image for linux/%s, only for [%s]", runtime.GOARCH, strings.Join(others, ", "))
}

// isImage tells images from what indexes list beside them: statements about an
// image, which buildkit has as manifests of the platform unknown/unknown, and
// artifacts such as SOCI's, which may have the image's own platform.
func isImage(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "" &&
		(d.ArtifactType == "" || types.MediaType(d.ArtifactType).IsConfig()) &&
		(d.Platform == nil || d.Platform.OS != "unknown" && d.Platform.Architecture != "unknown")
}

// runsHere reports whether a platform is this host's, by any of its names.
func runsHere(os, architecture string) bool {
	switch architecture = strings.ToLower(architecture); architecture {
	case "x86_64", "x86-64":
		architecture = "amd64"
	case "aarch64":
		architecture = "arm64"
	}
	return strings.EqualFold(os, "linux") && architecture == runtime.GOARCH
}

// parseImage reads an image's manifest strictly.
func parseImage(m manifest) (*v1.Manifest, error) {
	doc, err := v1.ParseManifest(bytes.NewReader(m.data))
	if err != nil {
		return nil, unusablef("its manifest is malformed: %v", err)
	}
	if doc.SchemaVersion != 2 {
		return nil, unusablef("its manifest has schemaVersion %d, not 2", doc.SchemaVersion)
	}
	return doc, nil
}

// readConfig fetches the config and checks it against its digest.
func readConfig(ctx context.Context, repo repository, d v1.Descriptor) (*v1.ConfigFile, error) {
	if !d.MediaType.IsConfig() {
		return nil, unsupportedf("its config has the media type %q: it is no container image, but an artifact of another kind", d.MediaType)
	}
	if d.Size < 0 || d.Size > maxConfigBytes {
		return nil, unusablef("its config has %d bytes, at most %d are read", d.Size, maxConfigBytes)
	}
	in, err := repo.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(in, d.Size+1))
	if closeErr := in.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	if err := checkDigest(d.Digest, data); err != nil {
		if _, own := repo.(ownRepository); own {
			err = ours(err)
		}
		return nil, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(data))
	if err != nil {
		return nil, unusablef("its config is malformed: %v", err)
	}
	return config, nil
}

// checkImage checks what is known before a layer is read.
func checkImage(doc *v1.Manifest, config *v1.ConfigFile) error {
	// Tools that make images from nothing leave the platform out.
	os, architecture := cmp.Or(config.OS, "linux"), cmp.Or(config.Architecture, runtime.GOARCH)
	if !runsHere(os, architecture) {
		return unusablef("it is for %s/%s, and this host runs linux/%s", os, architecture, runtime.GOARCH)
	}
	if n := len(doc.Layers); n > MaxLayers {
		return unusablef("it has %d layers, and at most %d are possible", n, MaxLayers)
	}
	if kind := config.RootFS.Type; kind != "" && kind != "layers" {
		return unusablef("its config has a root file system of the type %q, not \"layers\"", kind)
	}
	if len(doc.Layers) != len(config.RootFS.DiffIDs) {
		return unusablef("its manifest lists %d layers, and its config has diff_ids of %d", len(doc.Layers), len(config.RootFS.DiffIDs))
	}
	for i, d := range doc.Layers {
		if !isLayer(d.MediaType) {
			return unsupportedf("layer %d of %d, %s, has the media type %q", i+1, len(doc.Layers), d.Digest, d.MediaType)
		}
		if d.Size < 0 {
			return unusablef("layer %d of %d, %s, has %d bytes", i+1, len(doc.Layers), d.Digest, d.Size)
		}
	}
	return nil
}

// dockerZstdLayer is what containerd calls such a layer in docker's formats.
const dockerZstdLayer types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"

// isLayer knows tars, plain and compressed, also those that are kept out of
// registries: where the registry has one nevertheless, it can be run.
func isLayer(mediaType types.MediaType) bool {
	return mediaType.IsLayer() ||
		mediaType == dockerZstdLayer ||
		mediaType == "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
}

func checkDigest(want v1.Hash, data []byte) error {
	hasher, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return unusablef("it has a digest of the algorithm %q, not sha256 or sha512", want.Algorithm)
	}
	hasher.Write(data) // never fails
	if got := hashOf(want.Algorithm, hasher); got != want {
		return thaw.Errorf(op, thaw.Corrupt, "the registry sent %s for %s", got, want)
	}
	return nil
}
