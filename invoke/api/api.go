// SPDX-License-Identifier: Apache-2.0

// Package api is Lambda's REST API over HTTP: it authenticates a request, finds
// the operation, checks what the request alone can tell, asks the control plane
// or the invoker, and words the answer, errors included, as Lambda does. It
// promises that each request is answered with its id, that an error never
// shows a tenant more than the tenant's own things, and that an invocation
// goes on when its client has gone. It keeps no state of its own.
// docs/lambda-api.md says what is supported and what differs.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"thaw.dev/thaw/internal/request"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/tenant/sigv4"
)

// Authenticator says who sent a request, and guards its body; see
// [sigv4.Verifier.Verify].
type Authenticator interface {
	Verify(ctx context.Context, r *http.Request) (sigv4.Identity, error)
}

// Invoker runs functions. Implementations are safe for concurrent use.
type Invoker interface {
	// Invoke runs one invocation to its end. A function that fails is no
	// error but a Response with FunctionError. Errors: [thaw.Throttled] where
	// no sandbox is to be had now, [thaw.Unavailable], [thaw.Internal]; a kind
	// that blames the caller is told as [thaw.Lost], see [thaw.OurFault]. ctx
	// does not end when the client goes away.
	Invoke(ctx context.Context, target control.Target, request Request) (*Response, error)
}

// Request is one invocation, checked.
type Request struct {
	ID            string // a UUID, the client knows it as x-amzn-RequestId
	Payload       []byte // valid JSON, 1 byte to 6 MiB; the invoker's from now on
	ClientContext string // valid JSON, or ""
	TraceID       string // of the header X-Amzn-Trace-Id, or ""
	LogTail       bool   // the response should hold the end of the log
}

// Response is what a function answered.
type Response struct {
	Payload       []byte // JSON
	FunctionError string // "", or "Unhandled"
	LogTail       []byte // at most 4 KB, if asked for
}

// Options say what a Handler works with.
type Options struct {
	Auth    Authenticator
	Control *control.Control
	Invoker Invoker

	// Concurrency is what GetAccountSettings says of concurrent executions; 0
	// means Lambda's 1,000.
	Concurrency int

	Log *slog.Logger // nil means slog.Default()
}

// Handler serves the API. It is safe for concurrent use.
type Handler struct {
	options Options
	mux     *http.ServeMux
}

// New returns a handler; it does no I/O.
func New(options Options) *Handler {
	if options.Concurrency == 0 {
		options.Concurrency = 1000
	}
	if options.Log == nil {
		options.Log = slog.Default()
	}
	h := &Handler{options: options, mux: http.NewServeMux()}
	for _, o := range append(supported(), unsupported()...) {
		h.mux.Handle(o.method+" "+o.path, route{h, o})
	}
	h.mux.Handle("/", route{h, operation{serve: unknownOperation}})
	return h
}

// operation is one operation of the API.
type operation struct {
	name, method, path string
	serve              func(h *Handler, c *call) error
}

// route joins an operation to the multiplexer.
type route struct {
	handler   *Handler
	operation operation
}

// ServeHTTP runs the operation; w is always a *call.
func (r route) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	c, ok := w.(*call)
	if !ok {
		panic("api: internal error: a route was served without its call")
	}
	c.r, c.operation = request, r.operation.name
	c.info.Operation = r.operation.name
	if err := r.operation.serve(r.handler, c); err != nil {
		r.handler.fail(c, err)
	}
}

// call is one request on its way.
type call struct {
	http.ResponseWriter

	r         *http.Request
	identity  sigv4.Identity
	info      *request.Info
	requestID string
	operation string
}

// Unwrap lets http.ResponseController reach the connection.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// function returns the name and the qualifier that the request is about.
func (c *call) function() (name, qualifier string) {
	if c.r.URL.RawQuery != "" {
		qualifier = c.r.URL.Query().Get("Qualifier")
	}
	return c.r.PathValue("function"), qualifier
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info := request.Of(r.Context())
	c := &call{ResponseWriter: w, r: r, info: info, requestID: info.ID}
	w.Header()["X-Amzn-Requestid"] = []string{c.requestID}
	if err := h.authenticate(c); err != nil {
		h.fail(c, err)
	} else if routed, ok := plainPath(r); ok {
		h.mux.ServeHTTP(c, routed)
	} else {
		h.fail(c, unknownOperation(h, c))
	}
}

func (h *Handler) authenticate(c *call) error {
	identity, err := h.options.Auth.Verify(c.r.Context(), c.r)
	c.identity = identity
	c.info.Authenticated(string(identity.Tenant))
	if err == nil && identity.Service != "lambda" {
		return &fault{status: http.StatusForbidden, problem: string(sigv4.InvalidSignature),
			message: "Credential should be scoped to correct service: 'lambda'. "}
	}
	return err
}

// plainPath takes off the slash that some SDKs end a path with, and refuses a
// path that the multiplexer would answer with a redirect, which no client of
// this API follows.
func plainPath(r *http.Request) (*http.Request, bool) {
	trimmed := strings.TrimSuffix(r.URL.Path, "/")
	if trimmed != path.Clean(r.URL.Path) {
		return nil, false
	}
	if trimmed == r.URL.Path {
		return r, true
	}
	plain, url := *r, *r.URL
	url.Path, url.RawPath = trimmed, strings.TrimSuffix(url.RawPath, "/")
	plain.URL = &url
	return &plain, true
}
