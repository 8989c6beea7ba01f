// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/tenant/sigv4"
)

// TestEveryKindHasAStatus names every kind there is; one added to the list
// fails the count.
func TestEveryKindHasAStatus(t *testing.T) {
	want := map[thaw.Kind]fault{
		thaw.Internal:    {status: 500, problem: "ServiceException"},
		thaw.Invalid:     {status: 400, problem: "InvalidParameterValueException"},
		thaw.NotFound:    {status: 404, problem: "ResourceNotFoundException"},
		thaw.Conflict:    {status: 409, problem: "ResourceConflictException"},
		thaw.Corrupt:     {status: 500, problem: "ServiceException"},
		thaw.Denied:      {status: 403, problem: "AccessDeniedException"},
		thaw.TooLarge:    {status: 413, problem: "RequestTooLargeException"},
		thaw.Throttled:   {status: 429, problem: "TooManyRequestsException"},
		thaw.Unavailable: {status: 503, problem: "ServiceUnavailableException"},
		thaw.Canceled:    {status: 400, problem: "RequestAbortedException"},
		thaw.Lost:        {status: 500, problem: "ServiceException"},
	}
	for kind := thaw.Kind(0); !strings.HasPrefix(kind.String(), "kind "); kind++ {
		for _, err := range []error{
			thaw.Errorf("op", kind, "secret of the host"),
			fmt.Errorf("wrapped: %w", thaw.Errorf("op", kind, "secret of the host")),
		} {
			got := faultOf(err)
			w, ok := want[kind]
			if !ok || got.status != w.status || got.problem != w.problem {
				t.Errorf("%v is %+v", kind, got)
			}
			if kind != thaw.Invalid && strings.Contains(got.message, "secret") {
				t.Errorf("%v shows what is not the tenant's: %s", kind, got.message)
			}
		}
	}
	if got := faultOf(errors.New("plain")); got.status != 500 || strings.Contains(got.message, "plain") {
		t.Errorf("a plain error is %+v", got)
	}
}

func TestNamedProblemsWin(t *testing.T) {
	for problem, status := range map[control.ProblemType]int{
		control.InvalidParameter: 400, control.FailedValidation: 400, control.ResourceNotFound: 404, control.ResourceConflict: 409,
		control.PreconditionFailed: 412, control.AccessDenied: 403, control.Unavailable: 503,
	} {
		err := thaw.Wrap("op", &thaw.Error{Kind: thaw.Conflict, Err: &control.Problem{Type: problem, Message: "why"}})
		if got := faultOf(err); got.status != status || got.problem != string(problem) || got.message != "why" {
			t.Errorf("%s is %+v", problem, got)
		}
	}
	for _, code := range []sigv4.Code{sigv4.MissingAuthentication, sigv4.IncompleteSignature, sigv4.InvalidSignature, sigv4.UnrecognizedClient} {
		err := thaw.Wrap("op", &thaw.Error{Kind: thaw.Denied, Err: &sigv4.Rejection{Code: code, Message: "why"}})
		if got := faultOf(err); got.status != 403 || got.problem != string(code) || got.message != "why" {
			t.Errorf("%s is %+v", code, got)
		}
	}
}

func TestReferenceWithoutTag(t *testing.T) {
	const digest = "sha256:00"
	for ref, want := range map[string]string{
		"host/repo": "host/repo@" + digest, "host/repo:tag": "host/repo@" + digest, "host:5000/a/b": "host:5000/a/b@" + digest,
		"host:5000/a/b:v1": "host:5000/a/b@" + digest, "host:5000/a/b:v1@sha256:00": "host:5000/a/b@" + digest,
	} {
		if got := locationOf(&control.Code{ImageURI: ref, Digest: digest}); got.ResolvedImageUri != want || got.ImageUri != ref {
			t.Errorf("%s: %+v", ref, got)
		}
	}
}
