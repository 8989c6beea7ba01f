// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	thaw "thaw.dev/thaw"
)

// Code is an error code of the distribution protocol.
type Code string

// The codes: those of the specification, RANGE_INVALID and TAG_INVALID that
// every registry adds, and UNKNOWN and UNAVAILABLE for failures of the host.
const (
	CodeBlobUnknown         Code = "BLOB_UNKNOWN"
	CodeBlobUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	CodeBlobUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	CodeDigestInvalid       Code = "DIGEST_INVALID"
	CodeManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     Code = "MANIFEST_INVALID"
	CodeManifestUnknown     Code = "MANIFEST_UNKNOWN"
	CodeNameInvalid         Code = "NAME_INVALID"
	CodeNameUnknown         Code = "NAME_UNKNOWN"
	CodeSizeInvalid         Code = "SIZE_INVALID"
	CodeUnauthorized        Code = "UNAUTHORIZED"
	CodeDenied              Code = "DENIED"
	CodeUnsupported         Code = "UNSUPPORTED"
	CodeTooManyRequests     Code = "TOOMANYREQUESTS"
	CodeRangeInvalid        Code = "RANGE_INVALID"
	CodeTagInvalid          Code = "TAG_INVALID"
	CodeTagImmutable        Code = "TAG_IMMUTABLE"  // sent as TAG_INVALID, as ECR does
	CodeNameExists          Code = "NAME_EXISTS"    // no protocol answer: creating what is there
	CodeNameNotEmpty        Code = "NAME_NOT_EMPTY" // no protocol answer: removing what is in use
	CodeQuota               Code = "QUOTA_EXCEEDED" // sent as DENIED: tools then don't try again
	CodeUnavailable         Code = "UNAVAILABLE"
	CodeUnknown             Code = "UNKNOWN"
)

// Refusal is why the registry did not do what it was asked. It is always
// wrapped in a [thaw.Error], which has its kind; get at it with [CodeOf].
type Refusal struct {
	Code    Code
	Message string // one line for people
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// CodeOf returns the code of the refusal in err's chain, UNAVAILABLE for an
// error of that kind, and UNKNOWN for any other error.
func CodeOf(err error) Code {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Code
	}
	switch thaw.KindOf(err) {
	case thaw.Unavailable, thaw.Canceled:
		return CodeUnavailable
	case thaw.Throttled:
		return CodeTooManyRequests
	case thaw.Denied:
		return CodeUnauthorized
	}
	return CodeUnknown
}

func refuse(code Code, format string, args ...any) error {
	return refuseAs(code, kindOfCode(code), format, args...)
}

func refuseAs(code Code, kind thaw.Kind, format string, args ...any) error {
	return &thaw.Error{Op: "registry", Kind: kind, Err: &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}}
}

func kindOfCode(code Code) thaw.Kind {
	switch code {
	case CodeBlobUnknown, CodeBlobUploadUnknown, CodeManifestUnknown, CodeNameUnknown:
		return thaw.NotFound
	case CodeUnauthorized, CodeDenied, CodeQuota:
		return thaw.Denied
	case CodeTooManyRequests:
		return thaw.Throttled
	case CodeNameExists, CodeNameNotEmpty, CodeTagImmutable:
		return thaw.Conflict
	case CodeUnavailable:
		return thaw.Unavailable
	case CodeUnknown:
		return thaw.Internal
	}
	return thaw.Invalid
}

// statusOf is the one place where an error becomes an HTTP status.
func statusOf(code Code, kind thaw.Kind) int {
	switch code {
	case CodeUnauthorized:
		return http.StatusUnauthorized
	case CodeTagImmutable:
		return http.StatusBadRequest
	case CodeUnsupported:
		return http.StatusMethodNotAllowed
	case CodeRangeInvalid:
		return http.StatusRequestedRangeNotSatisfiable
	}
	switch kind {
	case thaw.Invalid:
		return http.StatusBadRequest
	case thaw.NotFound:
		return http.StatusNotFound
	case thaw.Conflict:
		return http.StatusConflict
	case thaw.Denied:
		return http.StatusForbidden
	case thaw.TooLarge:
		return http.StatusRequestEntityTooLarge
	case thaw.Throttled:
		return http.StatusTooManyRequests
	case thaw.Unavailable, thaw.Canceled:
		return http.StatusServiceUnavailable
	case thaw.Internal, thaw.Corrupt, thaw.Lost:
	}
	return http.StatusInternalServerError
}

// diskError gives a failed file operation its kind: a shortage passes, anything
// else is unforeseen.
func diskError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &thaw.Error{Op: "registry: " + op, Kind: thaw.KindOf(err), Err: err}
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
