// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// result is how a request ended, as it is counted.
type result uint8

const (
	ok          result = iota
	absent             // no such object
	present            // a put that was to fail where the object exists found it
	corrupt            // the bytes arrived and are not what they must be
	conflict           // the key can't be, beside others
	canceled           // the caller gave up
	denied             // not these credentials
	noBucket           // no such bucket
	refused            // any other answer that says the request is wrong
	unsupported        // the server does not know what was asked
	throttled          // 429, 503: slower, please
	failed             // any other 5xx
	timeout            // our own deadline
	broken             // no connection, a broken one, or a body that ended early
	results            // how many there are
)

var resultNames = [results]string{"ok", "absent", "present", "corrupt", "conflict", "canceled", "denied",
	"no_bucket", "refused", "unsupported", "throttled", "failed", "timeout", "broken"}

// passes reports that the same request may succeed a moment later.
func (r result) passes() bool {
	switch r {
	case throttled, failed, timeout, broken:
		return true
	}
	return false
}

// failure is a request that did not end ok.
type failure struct {
	result result
	err    error
}

// errShort is a body that ended before its announced length.
var errShort = errors.New("the body ended early")

// errCorrupt marks bytes that arrived whole and are wrong.
type errCorrupt struct{ error }

// classify says how a request ended; nil is well. ctx is the caller's, bounded
// is ctx with the request's deadline. Nothing but an HTTP response can say that
// an object is absent: the libraries below take a host that can't be found, or
// a denial, for it too.
func (r *requester) classify(ctx, bounded context.Context, err error) *failure {
	if err == nil {
		return nil
	}
	if _, is := errors.AsType[errCorrupt](err); is {
		return &failure{corrupt, err}
	}
	if status, code := r.status(err); status >= 400 || status/100 == 3 {
		return &failure{ofStatus(status, code), fmt.Errorf("it answered %d %s", status, code)}
	}
	switch {
	case ctx.Err() != nil:
		return &failure{canceled, context.Cause(ctx)}
	case bounded.Err() != nil:
		return &failure{timeout, errors.New("no answer within " + r.opts.RequestTimeout.String())}
	}
	return &failure{broken, err}
}

func ofStatus(status int, code string) result {
	switch code {
	case "NoSuchBucket", "ContainerNotFound":
		return noBucket
	case "ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "ContainerBeingDeleted":
		return failed
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed":
		return denied // with which status, servers don't agree
	case "SlowDown", "ServerBusy", "TooManyRequests", "RequestLimitExceeded", "Throttling":
		return throttled
	}
	switch status {
	case http.StatusNotFound:
		switch code {
		case "", "NotFound", "NoSuchKey", "BlobNotFound":
			return absent
		}
		return refused
	case http.StatusPreconditionFailed:
		return present
	case http.StatusConflict:
		if code == "BlobAlreadyExists" {
			return present
		}
		return conflict
	case http.StatusUnauthorized, http.StatusForbidden:
		return denied
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return throttled
	case http.StatusRequestTimeout:
		return failed
	case http.StatusNotImplemented:
		return unsupported
	}
	if status >= 500 {
		return failed
	}
	return refused
}
