// SPDX-License-Identifier: Apache-2.0

package source

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

// These name an image in an OCI layout: as the specification has it, and as
// containerd, docker and buildkit add.
const (
	refAnnotation        = "org.opencontainers.image.ref.name"
	containerdAnnotation = "io.containerd.image.name"
)

// LoadLocal opens an image on this machine, to push it: the folder of an OCI
// layout, a tar of one, or a tar of `docker save`. Where it has several images
// the path goes on with ":NAME": the name that an OCI layout gives the image,
// or its REPOSITORY:TAG in docker's tar. Of an index it takes the image for
// this host.
//
// Nothing is unpacked: the image's layers are read from the file when they are
// asked for, and nothing stays open between. Errors are [thaw.NotFound] where
// there is no file, and [thaw.Invalid] where there is no image in it.
func LoadLocal(file string) (v1.Image, error) {
	file, ref, err := splitLocal(file)
	if err != nil {
		return nil, err
	}
	image, err := loadLocal(file, ref)
	if err != nil {
		if _, ok := errors.AsType[*thaw.Error](err); !ok {
			err = thaw.Errorf(op, thaw.Invalid, "%s holds no image that can be read: %w", file, err)
		}
		return nil, err
	}
	return image, nil
}

// splitLocal finds where the path ends and a name begins.
func splitLocal(file string) (string, string, error) {
	for i := len(file); i > 0; i = strings.LastIndexByte(file[:i], ':') {
		if _, err := os.Stat(file[:i]); err == nil {
			return file[:i], strings.TrimPrefix(file[i:], ":"), nil
		}
	}
	return "", "", thaw.Errorf(op, thaw.NotFound, "there is no file or folder %s", file)
}

func loadLocal(file, ref string) (v1.Image, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if _, err := os.Stat(filepath.Join(file, "index.json")); errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("it has no index.json; folders are read as OCI layouts: \"skopeo copy dir:FOLDER oci:LAYOUT\" makes one of skopeo's and buildah's dir:")
		}
		index, err := layout.ImageIndexFromPath(file)
		if err != nil {
			return nil, err
		}
		return imageOf(index, ref)
	}
	archive, err := readArchive(file)
	if err != nil {
		return nil, err
	}
	if archive.has("index.json") {
		index, err := archive.index()
		if err != nil {
			return nil, err
		}
		return imageOf(index, ref)
	}
	if !archive.has("manifest.json") {
		return nil, errors.New("it is a tar with neither index.json nor manifest.json")
	}
	return archive.dockerImage(ref)
}

// imageOf returns the image of that name, or the only one, for this host.
func imageOf(index v1.ImageIndex, ref string) (v1.Image, error) {
	doc, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	list := doc.Manifests
	if ref != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(d v1.Descriptor) bool { return !hasName(d, ref) })
		if len(list) == 0 {
			return nil, fmt.Errorf("it has no image named %q, only [%s]", ref, strings.Join(namesIn(doc.Manifests), ", "))
		}
	} else if names := namesIn(list); len(names) > 1 {
		return nil, fmt.Errorf("it has several images: append one of [:%s] to the path", strings.Join(names, ", :"))
	}
	for range maxIndexDepth {
		if len(list) == 0 {
			return nil, errors.New("its index is empty")
		}
		// A layout's own list seldom names platforms; then there is one entry.
		target := list[0].Digest
		if len(list) > 1 || list[0].Platform != nil {
			chosen, err := choose(list)
			if err != nil {
				return nil, err
			}
			if target, err = v1.NewHash(chosen); err != nil {
				return nil, err
			}
		}
		i := slices.IndexFunc(list, func(d v1.Descriptor) bool { return d.Digest == target })
		if !list[i].MediaType.IsIndex() {
			image, err := index.Image(target)
			if err == nil {
				err = checkWhole(image)
			}
			return image, err
		}
		if index, err = index.ImageIndex(target); err != nil {
			return nil, err
		}
		if doc, err = index.IndexManifest(); err != nil {
			return nil, err
		}
		list = doc.Manifests
	}
	return nil, errors.New("its index is nested too deeply")
}

// checkWhole reports a layer that is not where the image is: tools leave out
// non-distributable layers, and some those that are elsewhere too.
func checkWhole(image v1.Image) error {
	doc, err := image.Manifest()
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for i, layer := range layers {
		if ok, err := partial.Exists(layer); err != nil || ok {
			continue // what else is wrong is told when it is read
		}
		d := doc.Layers[i]
		if registry.IsForeign(string(d.MediaType)) {
			return fmt.Errorf("layer %s is not there; it has the non-distributable media type %q and is to be had from %q: put it at blobs/%s/%s",
				d.Digest, d.MediaType, d.URLs, d.Digest.Algorithm, d.Digest.Hex)
		}
		return fmt.Errorf("layer %s is not there: make it again with all layers", d.Digest)
	}
	return nil
}

func namesIn(list []v1.Descriptor) []string {
	var names []string
	for _, d := range list {
		if n := nameOf(d); n != "" {
			names = append(names, n)
		}
	}
	return names
}

// nameOf is what a layout calls an image: containerd's name, which is whole,
// before that of the specification, which is only a tag in what docker saves.
func nameOf(d v1.Descriptor) string {
	return cmp.Or(d.Annotations[containerdAnnotation], d.Annotations[refAnnotation])
}

// hasName reports whether a layout calls an image so, by either name and with
// or without what docker leaves out of names.
func hasName(d v1.Descriptor, ref string) bool {
	if d.Annotations[refAnnotation] == ref || d.Annotations[containerdAnnotation] == ref {
		return true
	}
	asked, err := name.ParseReference(ref)
	if err != nil {
		return false
	}
	full, err := name.ParseReference(d.Annotations[containerdAnnotation])
	return err == nil && full.Name() == asked.Name()
}
