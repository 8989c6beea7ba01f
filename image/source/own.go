package source

import (
	"context"
	"encoding/hex"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

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
		return manifest{}, err
	}
	data, err := r.repo.ManifestData(m)
	return manifest{digest: m.Digest, mediaType: m.MediaType, data: data}, err
}

func (r ownRepository) blob(_ context.Context, d v1.Descriptor) (body, error) {
	return r.repo.OpenBlob(d.Digest)
}

// opener makes a layer's Open.
func opener(repo repository, d v1.Descriptor) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) { return repo.blob(ctx, d) }
}

func hashOf(algorithm string, h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(h.Sum(nil))}
}
