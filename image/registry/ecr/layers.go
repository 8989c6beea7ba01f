// SPDX-License-Identifier: Apache-2.0

package ecr

import (
	"bytes"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"thaw.dev/thaw/image/registry"
)

type layersInput struct {
	repositoryRef
	LayerDigests []string `json:"layerDigests"`
}

type layer struct {
	LayerDigest       string `json:"layerDigest"`
	LayerAvailability string `json:"layerAvailability"`
	LayerSize         int64  `json:"layerSize,omitempty"`
	MediaType         string `json:"mediaType,omitempty"`
}

type layerFailure struct {
	LayerDigest   string `json:"layerDigest"`
	FailureCode   string `json:"failureCode"`
	FailureReason string `json:"failureReason"`
}

// batchCheckLayerAvailability tells only of the named repository, so that a
// layer which others store is as unavailable as one that nobody has.
func (c *call) batchCheckLayerAvailability(in layersInput) (any, error) {
	r, err := c.reader(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	if _, err := r.Describe(); err != nil {
		return nil, c.unknownRepository(err, in.RepositoryName)
	}
	if n := len(in.LayerDigests); n == 0 || n > maxNames {
		return nil, invalid("1 to %d layerDigests, not %d", maxNames, n)
	}
	layers, failures := []layer{}, []layerFailure{}
	for _, text := range in.LayerDigests {
		h, err := registry.ParseDigest(text)
		if err != nil {
			failures = append(failures, layerFailure{clip(text), "InvalidLayerDigest", "the digest is malformed"})
			continue
		}
		n, err := r.StatBlob(h)
		switch {
		case err == nil:
			layers = append(layers, layer{LayerDigest: text, LayerAvailability: "AVAILABLE", LayerSize: n, MediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip"})
		case registry.CodeOf(err) == registry.CodeBlobUnknown, c.toPush(in.repositoryRef, err):
			layers = append(layers, layer{LayerDigest: text, LayerAvailability: "UNAVAILABLE"})
		default:
			return nil, err
		}
	}
	return map[string]any{"layers": layers, "failures": failures}, nil
}

// toPush reports whether err is a loss that the caller may mend by a push, and
// then logs and counts it: this is how clients ask what they need to push.
func (c *call) toPush(ref repositoryRef, err error) bool {
	if !registry.PushMends(err) {
		return false
	}
	if _, refused := c.writer(ref); refused != nil {
		return false
	}
	c.hostFault(c.r, err)
	return true
}

// initiateLayerUpload begins an upload. ECR's API never makes a repository on
// the way.
func (c *call) initiateLayerUpload(in repositoryRef) (any, error) {
	w, err := c.existing(in)
	if err != nil {
		return nil, err
	}
	upload, err := w.StartUpload("sha256")
	if err != nil {
		return nil, err
	}
	return map[string]any{"uploadId": upload.ID, "partSize": partBytes}, nil
}

// existing is writer for a repository that must exist.
func (c *call) existing(in repositoryRef) (*registry.Writer, error) {
	w, err := c.writer(in)
	if err != nil {
		return nil, err
	}
	if _, err := w.Describe(); err != nil {
		return nil, c.unknownRepository(err, in.RepositoryName)
	}
	return w, nil
}

type partInput struct {
	repositoryRef
	UploadID      string `json:"uploadId"`
	PartFirstByte int64  `json:"partFirstByte"`
	PartLastByte  int64  `json:"partLastByte"`
	LayerPartBlob []byte `json:"layerPartBlob"`
}

func (c *call) uploadLayerPart(in partInput) (any, error) {
	w, err := c.existing(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	upload, err := w.Upload(in.UploadID)
	if err != nil {
		return nil, err
	}
	if in.PartFirstByte < 0 || in.PartLastByte-in.PartFirstByte+1 != int64(len(in.LayerPartBlob)) {
		return nil, invalid("bytes %d to %d are not the %d bytes of the part", in.PartFirstByte, in.PartLastByte, len(in.LayerPartBlob))
	}
	chunk := registry.Chunk{Given: true, First: in.PartFirstByte, Last: in.PartLastByte}
	n, err := upload.Append(c.r.Context(), chunk, bytes.NewReader(in.LayerPartBlob))
	if registry.CodeOf(err) == registry.CodeRangeInvalid {
		last := max(n-1, 0)
		return nil, &problem{Type: "InvalidLayerPartException", Message: "the part does not follow the one before it", LastValidByteReceived: &last}
	}
	if err != nil {
		return nil, err
	}
	return struct {
		repositoryRef
		UploadID         string `json:"uploadId"`
		LastByteReceived int64  `json:"lastByteReceived"`
	}{c.ref(in.RepositoryName), in.UploadID, n - 1}, nil
}

type completeInput struct {
	repositoryRef
	UploadID     string   `json:"uploadId"`
	LayerDigests []string `json:"layerDigests"`
}

func (c *call) completeLayerUpload(in completeInput) (any, error) {
	w, err := c.existing(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	if len(in.LayerDigests) == 0 {
		return nil, invalid("no layerDigests")
	}
	h, err := registry.ParseDigest(in.LayerDigests[0])
	if err != nil {
		return nil, err
	}
	upload, err := w.Upload(in.UploadID)
	if err != nil {
		return nil, err
	}
	if n, err := upload.Bytes(c.r.Context()); err != nil {
		return nil, err
	} else if n == 0 {
		return nil, fault("EmptyUploadException", "the upload has no parts")
	}
	existed, err := c.finish(w, upload, h)
	if err != nil {
		return nil, err
	}
	if existed {
		return nil, fault("LayerAlreadyExistsException", "the layer with digest '%s' already exists in the repository with name '%s'", h, in.RepositoryName)
	}
	return struct {
		repositoryRef
		UploadID    string `json:"uploadId"`
		LayerDigest string `json:"layerDigest"`
	}{c.ref(in.RepositoryName), in.UploadID, h.String()}, nil
}

// finish commits the upload and reports whether the repository had the layer
// before, which the API treats as an error although nothing went wrong.
func (c *call) finish(w *registry.Writer, upload *registry.Upload, h v1.Hash) (existed bool, err error) {
	_, statErr := w.StatBlob(h)
	err = upload.Commit(c.r.Context(), h, registry.Chunk{}, bytes.NewReader(nil))
	if registry.CodeOf(err) == registry.CodeDigestInvalid {
		if refusal, ok := errors.AsType[*registry.Refusal](err); ok {
			return false, fault("InvalidLayerException", "%s", refusal.Message)
		}
	}
	return statErr == nil, err
}

type downloadInput struct {
	repositoryRef
	LayerDigest string `json:"layerDigest"`
}

// getDownloadURLForLayer returns an address in the registry that needs no other
// credentials than the token in it.
func (c *call) getDownloadURLForLayer(in downloadInput) (any, error) {
	r, err := c.reader(in.repositoryRef)
	if err != nil {
		return nil, err
	}
	h, err := registry.ParseDigest(in.LayerDigest)
	if err != nil {
		return nil, err
	}
	if _, err := r.StatBlob(h); err != nil {
		return nil, c.unknownRepository(err, in.RepositoryName)
	}
	token, err := c.Tokens.Issue(registry.Claims{
		Tenant:  c.tenant,
		Key:     c.key,
		Scope:   registry.BlobScope(in.RepositoryName, h),
		Expires: time.Now().Add(registry.DownloadTTL).Unix(),
	})
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"downloadUrl": c.Endpoint(c.r).String() + "/v2/" + in.RepositoryName + "/blobs/" + h.String() + "?" + registry.DownloadParam + "=" + token,
		"layerDigest": h.String(),
	}, nil
}
