// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

// body is an open blob.
type body = io.ReadCloser

// ownRepository reads from our own registry's store.
type ownRepository struct {
	repo *registry.Repo
}

func (r ownRepository) manifest(_ context.Context, tagOrDigest string) (manifest, error) {
	m, err := r.repo.Manifest(tagOrDigest)
	if err != nil {
		return manifest{}, ours(err)
	}
	data, err := r.repo.ManifestData(m)
	return manifest{digest: m.Digest, mediaType: m.MediaType, data: data}, ours(err)
}

// ours tells bytes that went bad in our own registry from a bad image.
func ours(err error) error {
	if thaw.KindOf(err) == thaw.Corrupt {
		return thaw.Errorf("", thaw.Lost, "%w", err)
	}
	return err
}

func (r ownRepository) blob(_ context.Context, d v1.Descriptor) (body, error) {
	return r.repo.OpenBlob(d.Digest)
}

// opener makes a layer's Open, whose errors are in the words of [Resolver.Resolve]:
// a registry may refuse in the middle of an image what it began to give.
func opener(repo repository, ref reference, d v1.Descriptor) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		in, err := repo.blob(ctx, d)
		if thaw.KindOf(err) == thaw.NotFound && registry.IsForeign(string(d.MediaType)) {
			err = unusablef("layer %s has the non-distributable media type %q, and the registry does not have it, since most tools leave such layers out: "+
				"push it too, for instance by \"crane push --allow-nondistributable-artifacts\"", d.Digest, d.MediaType)
		}
		if err != nil {
			return nil, explain(ref, err)
		}
		return &layerReader{in, ref}, nil
	}
}

// layerReader reads a layer of the image that ref names.
type layerReader struct {
	io.ReadCloser
	ref reference
}

// Descriptor is the layer's file where this host keeps the layer, else nil.
func (l *layerReader) Descriptor() *os.File {
	if b, ok := l.ReadCloser.(*registry.Blob); ok {
		return b.File
	}
	return nil
}

func (l *layerReader) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = explain(l.ref, err)
	}
	return n, err
}

func hashOf(algorithm string, h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(h.Sum(nil))}
}
