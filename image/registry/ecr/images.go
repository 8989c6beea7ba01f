// SPDX-License-Identifier: Apache-2.0

package ecr

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"thaw.dev/thaw/image/registry"
)

type imageID struct {
	ImageDigest string `json:"imageDigest,omitempty"`
	ImageTag    string `json:"imageTag,omitempty"`
}

type imageFilter struct {
	TagStatus string `json:"tagStatus"`
}

func (f imageFilter) wants(tags []string) (bool, error) {
	switch f.TagStatus {
	case "", "ANY":
		return true, nil
	case "TAGGED":
		return len(tags) > 0, nil
	case "UNTAGGED":
		return len(tags) == 0, nil
	}
	return false, invalid("tagStatus %q is not TAGGED, UNTAGGED or ANY", clip(f.TagStatus))
}

type imagesInput struct {
	repositoryRef
	ImageIDs   []imageID   `json:"imageIds"`
	NextToken  string      `json:"nextToken"`
	MaxResults int         `json:"maxResults"`
	Filter     imageFilter `json:"filter"`
}

type imageDetail struct {
	repositoryRef
	ImageDigest            string   `json:"imageDigest"`
	ImageTags              []string `json:"imageTags,omitempty"`
	ImageSizeInBytes       int64    `json:"imageSizeInBytes"`
	ImagePushedAt          epoch    `json:"imagePushedAt"`
	ImageManifestMediaType string   `json:"imageManifestMediaType"`
	ArtifactMediaType      string   `json:"artifactMediaType,omitempty"`
	SubjectManifestDigest  string   `json:"subjectManifestDigest,omitempty"`
}

// selected returns the repository's images that a filter wants.
func (c *call) selected(ref repositoryRef, filter imageFilter) ([]registry.Image, map[string]registry.Image, error) {
	r, err := c.reader(ref)
	if err != nil {
		return nil, nil, err
	}
	images, err := r.Images()
	if err != nil {
		return nil, nil, c.unknownRepository(err, ref.RepositoryName)
	}
	byDigest := map[string]registry.Image{}
	var wanted []registry.Image
	for _, image := range images {
		byDigest[image.Digest.String()] = image
		ok, err := filter.wants(image.Tags)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			wanted = append(wanted, image)
		}
	}
	return wanted, byDigest, nil
}

func (c *call) describeImages(in imagesInput) (any, error) {
	images, byDigest, err := c.selected(in.repositoryRef, in.Filter)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(in.ImageIDs) > 0 {
		images, err = c.pick(in, images)
	} else {
		images, next, err = paged(images, in.NextToken, in.MaxResults, func(i registry.Image) string { return i.Digest.String() })
	}
	if err != nil {
		return nil, err
	}
	details := []imageDetail{}
	for _, image := range images {
		if image.Lost != nil {
			return nil, image.Lost
		}
		details = append(details, imageDetail{
			repositoryRef:          c.ref(in.RepositoryName),
			ImageDigest:            image.Digest.String(),
			ImageTags:              image.Tags,
			ImageSizeInBytes:       sizeOf(image, byDigest),
			ImagePushedAt:          epochOf(image.Pushed),
			ImageManifestMediaType: image.MediaType,
			ArtifactMediaType:      image.ArtifactType,
			SubjectManifestDigest:  image.Subject,
		})
	}
	return struct {
		ImageDetails []imageDetail `json:"imageDetails"`
		NextToken    string        `json:"nextToken,omitempty"`
	}{details, next}, nil
}

// sizeOf is the size of an image; of an index, that of its largest image.
func sizeOf(image registry.Image, byDigest map[string]registry.Image) int64 {
	n := image.ImageBytes
	for _, child := range image.Children {
		n = max(n, byDigest[child].ImageBytes)
	}
	return n
}

// pick returns the images that the request names; all must be there.
func (c *call) pick(in imagesInput, images []registry.Image) ([]registry.Image, error) {
	if len(in.ImageIDs) > maxNames {
		return nil, invalid("at most %d images in one request", maxNames)
	}
	var picked []registry.Image
	for _, id := range in.ImageIDs {
		i := slices.IndexFunc(images, func(image registry.Image) bool {
			return (id.ImageDigest != "" || id.ImageTag != "") &&
				(id.ImageDigest == "" || id.ImageDigest == image.Digest.String()) &&
				(id.ImageTag == "" || slices.Contains(image.Tags, id.ImageTag))
		})
		if i < 0 {
			if err := c.lost(in.repositoryRef, id); err != nil {
				return nil, err
			}
			return nil, fault("ImageNotFoundException", "The image with imageId {imageDigest:'%s', imageTag:'%s'} does not exist within the repository with name '%s' in the registry with id '%s'",
				orNull(id.ImageDigest), orNull(id.ImageTag), in.RepositoryName, c.tenant)
		}
		picked = append(picked, images[i])
	}
	return picked, nil
}

// lost is the error of an image that is not listed since it is lost, or nil.
func (c *call) lost(ref repositoryRef, id imageID) error {
	r, err := c.reader(ref)
	if err != nil {
		return err
	}
	if _, _, err = find(r, id); registry.PushMends(err) {
		return err
	}
	return nil
}

func orNull(s string) string {
	if s == "" {
		return "null"
	}
	return clip(s)
}

// listImages lists an entry for each tag, and one for each image without any.
func (c *call) listImages(in imagesInput) (any, error) {
	images, _, err := c.selected(in.repositoryRef, in.Filter)
	if err != nil {
		return nil, err
	}
	var ids []imageID
	for _, image := range images {
		if len(image.Tags) == 0 {
			ids = append(ids, imageID{ImageDigest: image.Digest.String()})
		}
		for _, tag := range image.Tags {
			ids = append(ids, imageID{image.Digest.String(), tag})
		}
	}
	key := func(id imageID) string { return id.ImageDigest + " " + id.ImageTag }
	slices.SortFunc(ids, func(a, b imageID) int { return cmp.Compare(key(a), key(b)) })
	shown, next, err := paged(ids, in.NextToken, in.MaxResults, key)
	if err != nil {
		return nil, err
	}
	if shown == nil {
		shown = []imageID{}
	}
	return struct {
		ImageIDs  []imageID `json:"imageIds"`
		NextToken string    `json:"nextToken,omitempty"`
	}{shown, next}, nil
}

type imageFailure struct {
	ImageID       imageID `json:"imageId"`
	FailureCode   string  `json:"failureCode"`
	FailureReason string  `json:"failureReason"`
}

func failed(id imageID, code, reason string) *imageFailure {
	return &imageFailure{ImageID: id, FailureCode: code, FailureReason: reason}
}

// find returns the manifest that an id means, or why there is none.
func find(r *registry.Repo, id imageID) (registry.Manifest, *imageFailure, error) {
	var m registry.Manifest
	if id.ImageDigest == "" && id.ImageTag == "" {
		return m, failed(id, "MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null"), nil
	}
	if id.ImageDigest != "" {
		if _, err := registry.ParseDigest(id.ImageDigest); err != nil {
			return m, failed(id, "InvalidImageDigest", "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"), nil
		}
	}
	reference := id.ImageTag
	if reference == "" {
		reference = id.ImageDigest
	}
	if id.ImageTag != "" && strings.Contains(id.ImageTag, ":") {
		return m, failed(id, "InvalidImageTag", "Invalid request parameters: the image tag is malformed"), nil
	}
	m, err := r.Manifest(reference)
	if registry.CodeOf(err) == registry.CodeManifestUnknown {
		return m, failed(id, "ImageNotFound", "Requested image not found"), nil
	}
	if (err == nil || registry.PushMends(err)) && id.ImageDigest != "" && m.Digest.String() != id.ImageDigest {
		return m, failed(id, "ImageTagDoesNotMatchDigest", "the tag stands for another digest"), nil
	}
	return m, nil, err
}

type image struct {
	repositoryRef
	ImageID                imageID `json:"imageId"`
	ImageManifest          string  `json:"imageManifest"`
	ImageManifestMediaType string  `json:"imageManifestMediaType"`
}

func (c *call) batchGetImage(in imagesInput) (any, error) {
	r, err := c.reader(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	if n := len(in.ImageIDs); n == 0 || n > maxNames {
		return nil, invalid("1 to %d imageIds, not %d", maxNames, n)
	}
	images, failures := []image{}, []imageFailure{}
	for _, id := range in.ImageIDs {
		m, failure, err := find(r, id)
		if err != nil {
			return nil, c.unknownRepository(err, in.RepositoryName)
		}
		if failure != nil {
			failures = append(failures, *failure)
			continue
		}
		data, err := r.ManifestData(m)
		if err != nil {
			return nil, err
		}
		images = append(images, image{c.ref(in.RepositoryName), imageID{m.Digest.String(), id.ImageTag}, string(data), m.MediaType})
	}
	return map[string]any{"images": images, "failures": failures}, nil
}

func (c *call) batchDeleteImage(in imagesInput) (any, error) {
	w, err := c.existing(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	if n := len(in.ImageIDs); n == 0 || n > maxNames {
		return nil, invalid("1 to %d imageIds, not %d", maxNames, n)
	}
	deleted, failures := []imageID{}, []imageFailure{}
	for _, id := range in.ImageIDs {
		m, failure, err := find(&w.Repo, id)
		if registry.PushMends(err) {
			err = nil // what is lost is deleted like anything else
		}
		if err == nil && failure == nil {
			var gone []imageID
			gone, failure, err = remove(w, m, id)
			deleted = append(deleted, gone...)
		}
		if err != nil {
			return nil, err
		}
		if failure != nil {
			failures = append(failures, *failure)
		}
	}
	return map[string]any{"imageIds": deleted, "failures": failures}, nil
}

// remove takes away a tag, and with the last one the image; or the image with
// all its tags where none was named.
func remove(w *registry.Writer, m registry.Manifest, id imageID) ([]imageID, *imageFailure, error) {
	tags, err := tagsOf(w, m.Digest)
	if err != nil {
		return nil, nil, err
	}
	if id.ImageTag != "" && len(tags) > 1 {
		if err := w.DeleteTag(id.ImageTag); err != nil {
			return nil, nil, err
		}
		return []imageID{{m.Digest.String(), id.ImageTag}}, nil, nil
	}
	indexes, err := w.IndexesNaming(m.Digest)
	if err != nil {
		return nil, nil, err
	}
	if len(indexes) > 0 {
		return nil, failed(id, "ImageReferencedByManifestList", "Requested image referenced by manifest list: ["+indexes[0].String()+"]"), nil
	}
	if err := w.DeleteManifest(m.Digest); err != nil {
		return nil, nil, err
	}
	if len(tags) == 0 {
		return []imageID{{ImageDigest: m.Digest.String()}}, nil, nil
	}
	gone := make([]imageID, len(tags))
	for i, tag := range tags {
		gone[i] = imageID{m.Digest.String(), tag}
	}
	return gone, nil, nil
}

func tagsOf(w *registry.Writer, h v1.Hash) ([]string, error) {
	images, err := w.Images()
	if err != nil {
		return nil, err
	}
	for _, image := range images {
		if image.Digest == h {
			return image.Tags, nil
		}
	}
	return nil, nil
}

type putImageInput struct {
	repositoryRef
	ImageManifest          string `json:"imageManifest"`
	ImageManifestMediaType string `json:"imageManifestMediaType"`
	ImageTag               string `json:"imageTag"`
	ImageDigest            string `json:"imageDigest"`
}

func (c *call) putImage(in putImageInput) (any, error) {
	w, err := c.existing(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	push := registry.Push{Data: []byte(in.ImageManifest), MediaType: in.ImageManifestMediaType, Digest: in.ImageDigest}
	if in.ImageTag != "" {
		push.Tags = []string{in.ImageTag}
	}
	if push.MediaType == "" {
		push.MediaType = guessMediaType(push.Data)
	}
	if err := c.refuseSame(w, in); err != nil {
		return nil, err
	}
	m, err := w.PutManifest(push)
	if err != nil {
		return nil, explainPut(err, push.MediaType)
	}
	return map[string]image{"image": {c.ref(in.RepositoryName), imageID{m.Digest.String(), in.ImageTag}, in.ImageManifest, m.MediaType}}, nil
}

// refuseSame answers a push that would change nothing as ECR does.
func (c *call) refuseSame(w *registry.Writer, in putImageInput) error {
	h, _, err := v1.SHA256(strings.NewReader(in.ImageManifest))
	if err != nil {
		return err
	}
	m, failure, err := find(&w.Repo, imageID{h.String(), in.ImageTag})
	if registry.PushMends(err) {
		return nil // it is being pushed
	}
	if err != nil || failure != nil {
		return err
	}
	return fault("ImageAlreadyExistsException", "Image with digest '%s' and tag '%s' already exists in the repository with name '%s' in registry with id '%s'",
		m.Digest, orNull(in.ImageTag), in.RepositoryName, c.tenant)
}

// guessMediaType is for manifests that do not say what they are: OCI's may not.
func guessMediaType(data []byte) string {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(data, &doc); err != nil || doc.MediaType != "" {
		return doc.MediaType
	}
	if doc.Manifests != nil {
		return string(types.OCIImageIndex)
	}
	return string(types.OCIManifestSchema1)
}

func explainPut(err error, mediaType string) error {
	refusal, ok := errors.AsType[*registry.Refusal](err)
	if !ok {
		return err
	}
	switch {
	case refusal.Code == registry.CodeDigestInvalid:
		return fault("ImageDigestDoesNotMatchException", "%s", refusal.Message)
	case refusal.Code == registry.CodeManifestBlobUnknown && types.MediaType(mediaType).IsIndex():
		return fault("ReferencedImagesNotFoundException", "%s", refusal.Message)
	}
	return err
}
