// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/door"
	"thaw.dev/thaw/internal/request"
	"thaw.dev/thaw/internal/spool"
)

// The surfaces that requests come to, as metrics and logs name them.
const (
	surfaceLambda   = "lambda"
	surfaceECR      = "ecr"
	surfaceRegistry = "registry"
	surfaceAdmin    = "admin"
)

// observed serves a surface: each request is counted where it fails for the
// host's sake, and logged with --verbose. Queries are left out of the log, since
// a signature or a token may be in them.
func (n *node) observed(surface string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ctx, info := request.With(r.Context())
		info.Known = func(tenant string) { door.Known(ctx, tenant) }
		out := &answer{ResponseWriter: w}
		r = r.WithContext(ctx)
		defer func() {
			if b, ok := r.Body.(*spool.Body); ok {
				_ = b.Close() // only read
			}
			if cause := recover(); cause != nil {
				n.panicked(out, info, cause)
			}
			if out.status == 0 {
				out.status = http.StatusOK
			}
			if info.Err != nil && r.Context().Err() == nil {
				n.metrics.failures.WithLabelValues(surface, thaw.KindOf(info.Err).String()).Inc()
			}
			if n.log.Enabled(ctx, slog.LevelDebug) {
				n.log.Debug("request", "surface", surface, "method", r.Method, "path", r.URL.Path, "operation", info.Operation,
					"status", out.status, "tenant", info.Tenant, "request", info.ID, "took", time.Since(began))
			}
		}()
		h.ServeHTTP(out, r)
	})
}

// panicked answers for a handler that panicked, and says so in the log.
func (n *node) panicked(out *answer, info *request.Info, cause any) {
	if cause == http.ErrAbortHandler { //nolint:errorlint // it is compared like this where it comes from
		panic(cause)
	}
	info.Err = thaw.Errorf("serve a request", thaw.Internal, "panic: %v", cause)
	n.log.Error("a request's handler panicked", "request", info.ID, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	if out.status == 0 {
		http.Error(out, "an internal error occurred; request "+info.ID, http.StatusInternalServerError)
	}
}

// answer notes the status of an answer.
type answer struct {
	http.ResponseWriter

	status int
}

// WriteHeader notes the status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// ReadFrom keeps the way that copies a file without reading it.
func (a *answer) ReadFrom(r io.Reader) (int64, error) { return io.Copy(a.ResponseWriter, r) }

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
