// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archiveIndex is an index in a tar of an OCI layout.
type archiveIndex struct {
	archive   *archive
	mediaType types.MediaType
	data      []byte
}

var _ v1.ImageIndex = (*archiveIndex)(nil)

// index opens the layout's own list of images.
func (a *archive) index() (v1.ImageIndex, error) {
	data, err := a.read("index.json")
	return &archiveIndex{a, types.OCIImageIndex, data}, err
}

func (a *archive) blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// verified reads a manifest or config and checks it.
func (a *archive) verified(h v1.Hash) ([]byte, error) {
	data, err := a.read(a.blobName(h))
	if err != nil {
		return nil, err
	}
	return data, checkDigest(h, data)
}

func (i *archiveIndex) MediaType() (types.MediaType, error) { return i.mediaType, nil }
func (i *archiveIndex) Digest() (v1.Hash, error)            { return partial.Digest(i) }
func (i *archiveIndex) Size() (int64, error)                { return int64(len(i.data)), nil }
func (i *archiveIndex) RawManifest() ([]byte, error)        { return i.data, nil }

func (i *archiveIndex) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(i.data))
}

func (i *archiveIndex) Image(h v1.Hash) (v1.Image, error) {
	data, err := i.archive.verified(h)
	if err != nil {
		return nil, err
	}
	doc, err := v1.ParseManifest(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&archiveImage{i.archive, data, doc})
}

func (i *archiveIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	data, err := i.archive.verified(h)
	return &archiveIndex{i.archive, types.OCIImageIndex, data}, err
}

// archiveImage is the core of an image in a tar of an OCI layout.
type archiveImage struct {
	archive *archive
	data    []byte
	doc     *v1.Manifest
}

var _ partial.CompressedImageCore = (*archiveImage)(nil)

func (i *archiveImage) RawManifest() ([]byte, error) { return i.data, nil }

func (i *archiveImage) MediaType() (types.MediaType, error) {
	if i.doc.MediaType == "" {
		return types.OCIManifestSchema1, nil
	}
	return i.doc.MediaType, nil
}

func (i *archiveImage) RawConfigFile() ([]byte, error) {
	return i.archive.verified(i.doc.Config.Digest)
}

func (i *archiveImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append([]v1.Descriptor{i.doc.Config}, i.doc.Layers...) {
		if d.Digest == h {
			return &archiveLayer{i.archive, d}, nil
		}
	}
	return nil, fmt.Errorf("%s has no layer %s", i.archive.file, h)
}

// archiveLayer is a layer, or the config, as a blob of the tar.
type archiveLayer struct {
	archive    *archive
	descriptor v1.Descriptor
}

func (l *archiveLayer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l *archiveLayer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l *archiveLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }
func (l *archiveLayer) Descriptor() (*v1.Descriptor, error) { return &l.descriptor, nil }
func (l *archiveLayer) Exists() (bool, error) {
	return l.archive.has(l.archive.blobName(l.descriptor.Digest)), nil
}
func (l *archiveLayer) Compressed() (io.ReadCloser, error) {
	return l.archive.open(l.archive.blobName(l.descriptor.Digest))
}
