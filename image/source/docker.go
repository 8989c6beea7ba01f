// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// dockerImage opens an image in a tar of `docker save`. Its layers are taken as
// they lie there, mostly uncompressed: the library would compress them, twice,
// which takes four times as long as the rest of a deployment to this machine.
func (a *archive) dockerImage(ref string) (v1.Image, error) {
	listed, err := a.dockerEntry(ref)
	if err != nil {
		return nil, err
	}
	config, err := a.read(listed.Config)
	if err != nil {
		return nil, err
	}
	parsed, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("its config %s is malformed: %w", listed.Config, err)
	}
	if len(listed.Layers) != len(parsed.RootFS.DiffIDs) {
		return nil, fmt.Errorf("its manifest.json lists %d layers, and its config has diff_ids of %d", len(listed.Layers), len(parsed.RootFS.DiffIDs))
	}
	image := &dockerImage{archive: a, config: config, files: map[v1.Hash]string{}}
	doc := &v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2}
	doc.Config.MediaType = types.DockerConfigJSON
	if doc.Config.Digest, doc.Config.Size, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		return nil, err
	}
	for i, file := range listed.Layers {
		d, err := a.dockerLayer(file, parsed.RootFS.DiffIDs[i])
		if err != nil {
			return nil, err
		}
		doc.Layers = append(doc.Layers, d)
		image.files[d.Digest] = file
	}
	image.doc = doc
	if image.data, err = json.Marshal(doc); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(image)
}

// dockerEntry returns what manifest.json says of the image of that name, or of
// the only one.
func (a *archive) dockerEntry(ref string) (tarball.Descriptor, error) {
	data, err := a.read("manifest.json")
	if err != nil {
		return tarball.Descriptor{}, err
	}
	var list tarball.Manifest
	if err := json.Unmarshal(data, &list); err != nil {
		return tarball.Descriptor{}, fmt.Errorf("its manifest.json is malformed: %w", err)
	}
	if ref == "" {
		if len(list) == 1 {
			return list[0], nil
		}
		return tarball.Descriptor{}, fmt.Errorf("it has %d images: append one of [:%s] to the path", len(list), strings.Join(tagsIn(list), ", :"))
	}
	asked, err := name.NewTag(ref)
	if err != nil {
		return tarball.Descriptor{}, err
	}
	i := slices.IndexFunc(list, func(d tarball.Descriptor) bool {
		return slices.ContainsFunc(d.RepoTags, func(tag string) bool {
			t, err := name.NewTag(tag)
			return err == nil && t.Name() == asked.Name()
		})
	})
	if i < 0 {
		return tarball.Descriptor{}, fmt.Errorf("it has no image named %q, only [%s]", ref, strings.Join(tagsIn(list), ", "))
	}
	return list[i], nil
}

func tagsIn(list tarball.Manifest) (tags []string) {
	for _, d := range list {
		tags = append(tags, d.RepoTags...)
	}
	return tags
}

// dockerLayer describes a layer as it lies in the tar. Uncompressed, its digest
// is its diff id, and the registry checks it.
func (a *archive) dockerLayer(file string, diffID v1.Hash) (v1.Descriptor, error) {
	in, err := a.open(file)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer in.Close() // only read
	magic := make([]byte, 4)
	if _, err := io.ReadFull(in, magic); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Digest: diffID}
	switch {
	case magic[0] == 0x1f && magic[1] == 0x8b:
		d.MediaType = types.DockerLayer
	case string(magic) == "\x28\xb5\x2f\xfd":
		d.MediaType = dockerZstdLayer
	default:
		p, _ := a.find(file)
		d.Size = p.bytes
		return d, nil
	}
	d.Digest, d.Size, err = v1.SHA256(io.MultiReader(bytes.NewReader(magic), in))
	return d, err
}

// dockerImage is the core of an image in a tar of `docker save`.
type dockerImage struct {
	archive      *archive
	config, data []byte
	doc          *v1.Manifest
	files        map[v1.Hash]string // the layers, by digest
}

var _ partial.CompressedImageCore = (*dockerImage)(nil)

func (i *dockerImage) RawManifest() ([]byte, error)        { return i.data, nil }
func (i *dockerImage) MediaType() (types.MediaType, error) { return i.doc.MediaType, nil }
func (i *dockerImage) RawConfigFile() ([]byte, error)      { return i.config, nil }

func (i *dockerImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h == i.doc.Config.Digest {
		return partial.ConfigLayer(i)
	}
	for _, d := range i.doc.Layers {
		if d.Digest == h {
			return &dockerLayer{i.archive, d, i.files[h]}, nil
		}
	}
	return nil, fmt.Errorf("%s has no layer %s", i.archive.file, h)
}

// dockerLayer is a layer as a file of the tar.
type dockerLayer struct {
	archive    *archive
	descriptor v1.Descriptor
	file       string
}

func (l *dockerLayer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l *dockerLayer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l *dockerLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }
func (l *dockerLayer) Descriptor() (*v1.Descriptor, error) { return &l.descriptor, nil }
func (l *dockerLayer) Compressed() (io.ReadCloser, error)  { return l.archive.open(l.file) }
