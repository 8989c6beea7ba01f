// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"archive/tar"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Image finds an image of an OCI layout by its tag.
func Image(folder, tag string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range list.Manifests {
		if d.Annotations["org.opencontainers.image.ref.name"] == tag {
			return index.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("%s holds no image %s", folder, tag)
}

// Files calls visit for each regular file that an image shows, with its
// content. It knows no whiteouts: the images of the benchmarks have none.
func Files(img v1.Image, visit func(header *tar.Header, content io.Reader) error) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := len(layers) - 1; i >= 0; i-- { // the topmost wins
		if err := files(layers[i], seen, visit); err != nil {
			return err
		}
	}
	return nil
}

func files(layer v1.Layer, seen map[string]bool, visit func(*tar.Header, io.Reader) error) error {
	plain, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer plain.Close()
	for entries := tar.NewReader(plain); ; {
		header, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeDir || seen[header.Name] {
			continue
		}
		seen[header.Name] = true
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := visit(header, entries); err != nil {
			return err
		}
	}
}
