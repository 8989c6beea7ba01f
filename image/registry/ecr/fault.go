// SPDX-License-Identifier: Apache-2.0

package ecr

import (
	"errors"
	"fmt"
	"net/http"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/internal/request"
)

// problem is an error of the API: its type is what clients decide by.
type problem struct {
	Type    string `json:"__type"`
	Message string `json:"message"`

	// Of InvalidLayerPartException only.
	LastValidByteReceived *int64 `json:"lastValidByteReceived,omitempty"`
}

func (p *problem) Error() string { return p.Type + ": " + p.Message }

func fault(kind, format string, args ...any) error {
	return &problem{Type: kind, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return fault("InvalidParameterException", format, args...)
}

// typeOf is ECR's name for a refusal of the store, "" where it has none.
func typeOf(code registry.Code) string {
	switch code {
	case registry.CodeNameUnknown:
		return "RepositoryNotFoundException"
	case registry.CodeNameExists:
		return "RepositoryAlreadyExistsException"
	case registry.CodeNameNotEmpty:
		return "RepositoryNotEmptyException"
	case registry.CodeManifestUnknown:
		return "ImageNotFoundException"
	case registry.CodeBlobUnknown, registry.CodeManifestBlobUnknown:
		return "LayersNotFoundException"
	case registry.CodeBlobUploadUnknown:
		return "UploadNotFoundException"
	case registry.CodeRangeInvalid, registry.CodeSizeInvalid, registry.CodeBlobUploadInvalid:
		return "InvalidLayerPartException"
	case registry.CodeTagImmutable:
		return "ImageTagAlreadyExistsException"
	case registry.CodeTooManyRequests, registry.CodeQuota:
		return "LimitExceededException"
	case registry.CodeDenied, registry.CodeUnauthorized:
		return "AccessDeniedException"
	case registry.CodeNameInvalid, registry.CodeTagInvalid, registry.CodeDigestInvalid, registry.CodeManifestInvalid:
		return "InvalidParameterException"
	}
	return ""
}

// explain is the one place where an error becomes an answer. What failed on our
// side is logged and not told.
func (h *Handler) explain(r *http.Request, err error) (int, *problem) {
	if p, ok := errors.AsType[*problem](err); ok {
		return http.StatusBadRequest, p
	}
	if refusal, ok := errors.AsType[*registry.Refusal](err); ok {
		if name := typeOf(refusal.Code); name != "" {
			return http.StatusBadRequest, &problem{Type: name, Message: refusal.Message}
		}
	}
	switch thaw.KindOf(err) {
	case thaw.Invalid, thaw.TooLarge:
		return http.StatusBadRequest, &problem{Type: "InvalidParameterException", Message: thaw.Tell(err)}
	case thaw.Canceled:
		return http.StatusBadRequest, &problem{Type: "InvalidParameterException", Message: "the request's body did not come"}
	case thaw.Throttled:
		return http.StatusBadRequest, &problem{Type: "LimitExceededException", Message: thaw.Tell(err)}
	case thaw.Denied:
		code, message := "UnrecognizedClientException", "The security token included in the request is invalid."
		if h.DeniedCode != nil {
			if c, m := h.DeniedCode(err); c != "" {
				code, message = c, m
			}
		}
		return http.StatusForbidden, &problem{Type: code, Message: message}
	}
	if r.Context().Err() == nil {
		h.hostFault(r, err)
	}
	return http.StatusInternalServerError, &problem{Type: "ServerException", Message: "the registry failed; try again"}
}

// hostFault logs and counts a request's failure for the host's sake.
func (h *Handler) hostFault(r *http.Request, err error) {
	info := request.Of(r.Context())
	info.Err = err
	h.Log.Error("ecr: request failed", "request", info.ID, "tenant", info.Tenant, "target", r.Header.Get("X-Amz-Target"), "err", err)
}
