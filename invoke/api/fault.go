// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/tenant/sigv4"
)

// The names of errors that this package gives beside control's.
const (
	invalidContent  = "InvalidRequestContentException"
	badType         = "SerializationException"
	tooLarge        = "RequestTooLargeException"
	tooMany         = "TooManyRequestsException"
	serviceError    = "ServiceException"
	unknownRoute    = "UnknownOperationException"
	notImplemented  = "NotImplementedException"
	requestAborted  = "RequestAbortedException"
	retryAfter      = 1 // seconds: a sandbox that is busy now may be free by then
	throttledReason = "ConcurrentInvocationLimitExceeded"
)

// fault is an error as a client sees it.
type fault struct {
	status  int
	problem string // the error's name
	message string
}

// Error returns the name and the message.
func (f *fault) Error() string { return f.problem + ": " + f.message }

func refuse(problem, format string, args ...any) error {
	return &fault{status: statusOf(problem), problem: problem, message: fmt.Sprintf(format, args...)}
}

// faultOf maps any error to what a client sees: the only place that knows
// which kind is which status. What is not meant for tenants becomes a plain
// internal error.
func faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if r, ok := errors.AsType[*sigv4.Rejection](err); ok {
		return &fault{http.StatusForbidden, string(r.Code), r.Message}
	}
	if p, ok := errors.AsType[*control.Problem](err); ok {
		return &fault{statusOf(string(p.Type)), string(p.Type), p.Message}
	}
	switch thaw.KindOf(err) {
	case thaw.Invalid:
		return &fault{400, string(control.InvalidParameter), thaw.Tell(err)}
	case thaw.NotFound:
		return &fault{404, string(control.ResourceNotFound), "The resource you requested does not exist."}
	case thaw.Conflict:
		return &fault{409, string(control.ResourceConflict), "The operation cannot be performed at this time."}
	case thaw.Denied:
		return &fault{403, string(control.AccessDenied), "Access denied."}
	case thaw.TooLarge:
		return &fault{413, tooLarge, "The request is too large."}
	case thaw.Throttled:
		return &fault{429, tooMany, "Rate Exceeded."}
	case thaw.Unavailable:
		return &fault{503, string(control.Unavailable), "The service is unable to process your request now."}
	case thaw.Canceled:
		return &fault{400, requestAborted, "The request was aborted."}
	case thaw.Internal, thaw.Corrupt, thaw.Lost:
	}
	return &fault{500, serviceError, "An internal error occurred. Please try again; the server's log says more under this request's id."}
}

// statusOf returns the status that goes with an error's name.
func statusOf(problem string) int {
	switch problem {
	case string(control.ResourceNotFound), unknownRoute:
		return http.StatusNotFound
	case string(control.ResourceConflict):
		return http.StatusConflict
	case string(control.PreconditionFailed):
		return http.StatusPreconditionFailed
	case string(control.AccessDenied):
		return http.StatusForbidden
	case string(control.Unavailable):
		return http.StatusServiceUnavailable
	case tooLarge:
		return http.StatusRequestEntityTooLarge
	case tooMany:
		return http.StatusTooManyRequests
	case serviceError:
		return http.StatusInternalServerError
	case notImplemented:
		return http.StatusNotImplemented
	}
	return http.StatusBadRequest
}

// fail answers with an error.
func (h *Handler) fail(c *call, err error) {
	f := faultOf(err)
	if f.status >= 500 && f.status != http.StatusNotImplemented {
		c.info.Err = err
		h.options.Log.Error("api: request failed", "request", c.requestID, "tenant", c.identity.Tenant,
			"operation", c.operation, "error", err)
	}
	body := map[string]string{"Type": "User"}
	if f.status >= 500 {
		body["Type"] = "Service"
	}
	// Lambda's own errors differ in the case of this member; SDKs that are
	// strict about it take what their model says.
	member := "message"
	if f.problem == string(control.ResourceNotFound) || f.problem == serviceError {
		member = "Message"
	}
	body[member] = f.message
	header := c.Header()
	if f.status == http.StatusTooManyRequests {
		body["Reason"] = throttledReason
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	header.Set("X-Amzn-ErrorType", f.problem)
	if err := c.json(f.status, body); err != nil {
		h.options.Log.Debug("api: answer not sent", "request", c.requestID, "error", err)
	}
}

// json answers with a value as JSON.
func (c *call) json(status int, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return thaw.Wrap("answer", err)
	}
	c.Header().Set("Content-Type", "application/json")
	c.Header().Set("Content-Length", strconv.Itoa(len(data)))
	c.WriteHeader(status)
	_, _ = c.Write(data) // a client that has gone is no error of ours
	return nil
}
