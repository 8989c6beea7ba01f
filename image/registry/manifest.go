// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
)

// document is a manifest as far as a registry looks into it.
type document struct {
	mediaType    string
	artifactType string // of the referrers API: the config's media type where none is given
	annotations  map[string]string
	subject      *reference
	blobs        []reference // config first, then layers; none of an index
	manifests    []reference // of an index
}

// reference is a descriptor with a digest that was checked.
type reference struct {
	MediaType string
	Digest    v1.Hash
	Size      int64
	// elsewhere marks a non-distributable layer: clients fetch it from its
	// URLs and do not push it.
	elsewhere bool
}

// rawManifest is the union of the four kinds of manifest. Pointers tell an
// absent field from an empty one.
type rawManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *rawDescriptor    `json:"config"`
	Layers        *[]rawDescriptor  `json:"layers"`
	Manifests     *[]rawDescriptor  `json:"manifests"`
	Subject       *rawDescriptor    `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
	FSLayers      json.RawMessage   `json:"fsLayers"` // schema 1 only
}

type rawDescriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	Size      *int64   `json:"size"`
	URLs      []string `json:"urls"`
	Data      []byte   `json:"data"`
}

// parseManifest checks a manifest by itself, without looking whether what it
// names exists. contentType is what the client called it; where the document
// says what it is, both must agree (one document must not be an image to one
// client and an index to another). Errors are MANIFEST_INVALID.
func parseManifest(contentType string, data []byte) (document, error) {
	var raw rawManifest
	if err := json.Unmarshal(data, &raw); err != nil {
		return document{}, invalidManifest("not a JSON manifest: %v", err)
	}
	doc := document{annotations: raw.Annotations, artifactType: raw.ArtifactType}
	var err error
	if doc.mediaType, err = mediaTypeOf(contentType, raw); err != nil {
		return doc, err
	}
	if raw.SchemaVersion != 2 {
		return doc, invalidManifest("schemaVersion is %d, not 2", raw.SchemaVersion)
	}
	if isIndex(doc.mediaType) {
		err = doc.readIndex(raw)
	} else {
		err = doc.readImage(raw)
	}
	if err != nil {
		return doc, err
	}
	if raw.Subject != nil {
		subject, err := checkDescriptor("subject", *raw.Subject)
		if err != nil {
			return doc, err
		}
		doc.subject = &subject
	}
	return doc, nil
}

func mediaTypeOf(contentType string, raw rawManifest) (string, error) {
	if contentType != "" {
		parsed, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return "", invalidManifest("content type %q: %v", clip(contentType), err)
		}
		contentType = parsed
	}
	mediaType := raw.MediaType
	switch {
	case mediaType == "" && contentType == "":
		return "", invalidManifest("neither the request nor the manifest says a media type")
	case mediaType == "":
		mediaType = contentType
	case contentType != "" && contentType != mediaType:
		return "", invalidManifest("sent as %q, but its mediaType is %q", contentType, clip(mediaType))
	}
	switch types.MediaType(mediaType) {
	case types.OCIManifestSchema1, types.OCIImageIndex, types.DockerManifestSchema2, types.DockerManifestList:
		return mediaType, nil
	case types.DockerManifestSchema1, types.DockerManifestSchema1Signed:
		return "", invalidManifest("docker schema 1 manifests are not supported: push the image again with a tool of this decade")
	}
	if raw.SchemaVersion == 1 || raw.FSLayers != nil {
		return "", invalidManifest("docker schema 1 manifests are not supported: push the image again with a tool of this decade")
	}
	return "", invalidManifest("media type %q is neither an image manifest nor an index", clip(mediaType))
}

func isIndex(mediaType string) bool {
	return types.MediaType(mediaType).IsIndex()
}

func (doc *document) readIndex(raw rawManifest) error {
	if raw.Config != nil || raw.Layers != nil {
		return invalidManifest("an index has no config and no layers")
	}
	if raw.Manifests == nil {
		return invalidManifest("an index has a list of manifests")
	}
	for _, d := range *raw.Manifests {
		ref, err := checkDescriptor("manifest", d)
		if err != nil {
			return err
		}
		doc.manifests = append(doc.manifests, ref)
	}
	return nil
}

func (doc *document) readImage(raw rawManifest) error {
	if raw.Manifests != nil {
		return invalidManifest("an image has no list of manifests")
	}
	if raw.Config == nil {
		return invalidManifest("an image has a config")
	}
	config, err := checkDescriptor("config", *raw.Config)
	if err != nil {
		return err
	}
	config.elsewhere = false
	doc.blobs = append(doc.blobs, config)
	if doc.artifactType == "" {
		doc.artifactType = config.MediaType
	}
	if raw.Layers == nil {
		return nil
	}
	for _, d := range *raw.Layers {
		layer, err := checkDescriptor("layer", d)
		if err != nil {
			return err
		}
		doc.blobs = append(doc.blobs, layer)
	}
	return nil
}

func checkDescriptor(what string, d rawDescriptor) (reference, error) {
	h, err := v1.NewHash(d.Digest)
	if err != nil {
		return reference{}, invalidManifest("%s: %q is not a sha256 or sha512 digest", what, clip(d.Digest))
	}
	if d.Size == nil || *d.Size < 0 {
		return reference{}, invalidManifest("%s %s: no size", what, h)
	}
	if d.MediaType == "" {
		return reference{}, invalidManifest("%s %s: no media type", what, h)
	}
	if d.Data != nil {
		// Readers may take this instead of the blob, so it must be the blob.
		got, err := digestOf(h.Algorithm, d.Data)
		if err != nil || got != h || int64(len(d.Data)) != *d.Size {
			return reference{}, invalidManifest("%s %s: its data field is something else", what, h)
		}
	}
	return reference{
		MediaType: d.MediaType,
		Digest:    h,
		Size:      *d.Size,
		elsewhere: len(d.URLs) > 0 && IsForeign(d.MediaType),
	}, nil
}

// IsForeign knows the media types of layers that licences keep out of
// registries: OCI's with any compression, and docker's. Manifests may name such
// a layer although the repository lacks it.
func IsForeign(mediaType string) bool {
	return types.MediaType(mediaType) == types.DockerForeignLayer ||
		strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.")
}

// bytes is the size of the image: config and layers as they are stored, each
// once; 0 of an index.
func (doc *document) bytes() int64 {
	var n int64
	seen := map[v1.Hash]bool{}
	for _, d := range doc.blobs {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			n += d.Size
		}
	}
	return n
}

func invalidManifest(format string, args ...any) error {
	return refuse(CodeManifestInvalid, format, args...)
}

func digestOf(algorithm string, data []byte) (v1.Hash, error) {
	if algorithm == "sha256" {
		sum := sha256.Sum256(data)
		return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(sum[:])}, nil
	}
	hasher, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, thaw.Wrap("registry: digest", err)
	}
	hasher.Write(data) // never fails
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(hasher.Sum(nil))}, nil
}

// isDigest reports whether s looks like a digest rather than a tag: tags have no
// colon.
func isDigest(s string) bool { return strings.Contains(s, ":") }
