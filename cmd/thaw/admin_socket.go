// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/request"
	"thaw.dev/thaw/invoke/logs"
	"thaw.dev/thaw/tenant"
)

// socketHandler is the admin socket's: what only this machine's operator may
// do. Whoever can open the socket may act as any tenant.
func (n *node) socketHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := h(r)
			n.respond(w, r, answer, err)
		})
	}
	handle("GET /v1/info", func(*http.Request) (any, error) {
		return serverInfo{Endpoint: n.address.endpoint(), Region: n.cmd.Region, Version: version}, nil
	})
	handle("GET /v1/tenants", n.listTenants)
	handle("POST /v1/tenants", n.createTenant)
	handle("GET /v1/tenants/{tenant}", func(r *http.Request) (any, error) { return n.tenant(r) })
	handle("GET /v1/tenants/{tenant}/quotas", n.showTenant)
	handle("POST /v1/tenants/{tenant}/rotate-keys", func(r *http.Request) (any, error) {
		account, err := n.tenant(r)
		if err != nil {
			return nil, err
		}
		return n.accounts.Rotate(r.Context(), account.Name)
	})
	handle("GET /v1/tenants/{tenant}/functions/{function}/ingest", n.ingestStatus)
	handle("GET /v1/tenants/{tenant}/images", n.inspectImage)
	handle("GET /v1/tenants/{tenant}/registries", n.listLogins)
	handle("POST /v1/tenants/{tenant}/registries", n.registryLogin)
	handle("DELETE /v1/tenants/{tenant}/registries", n.registryLogout)
	handle("GET /v1/traces", n.listTraces)
	handle("GET /v1/traces/{request}", n.getTrace)
	handle("GET /v1/cache", n.cacheStats)
	handle("POST /v1/cache/drop", n.cacheDrop)
	mux.HandleFunc("GET /v1/tenants/{tenant}/functions/{function}/logs", n.streamLogs)
	// Profiles tell what the server is at and cost processor time: anybody who
	// reaches the admin listener could have them otherwise.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return n.observed(surfaceAdmin, mux)
}

// respond writes an answer, or an error with the status of its kind.
func (n *node) respond(w http.ResponseWriter, r *http.Request, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := statusOf(thaw.KindOf(err))
		if status >= http.StatusInternalServerError && r.Context().Err() == nil {
			info := request.Of(r.Context())
			info.Err = err
			n.log.Error("admin: request failed", "request", info.ID, "method", r.Method, "path", r.URL.Path, "error", err)
		}
		w.WriteHeader(status)
		answer = adminError{Kind: thaw.KindOf(err).String(), Message: err.Error()}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// statusOf is the HTTP status of a kind on the admin socket.
func statusOf(k thaw.Kind) int {
	switch k {
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
	case thaw.Unavailable:
		return http.StatusServiceUnavailable
	case thaw.Internal, thaw.Corrupt, thaw.Canceled, thaw.Lost:
	}
	return http.StatusInternalServerError
}

// tenant is the account that the request's path names, by its name or its id.
func (n *node) tenant(r *http.Request) (tenant.Account, error) {
	account, err := n.accounts.ByName(r.Context(), r.PathValue("tenant"))
	if err != nil && thaw.KindOf(err) == thaw.NotFound {
		if byID, idErr := n.accounts.ByID(r.Context(), thaw.TenantID(r.PathValue("tenant"))); idErr == nil {
			return byID, nil
		}
	}
	return account, err
}

func (n *node) listTenants(r *http.Request) (any, error) {
	accounts, err := n.accounts.List(r.Context())
	for i := range accounts {
		accounts[i].Secret = ""
	}
	return accounts, err
}

func (n *node) createTenant(r *http.Request) (any, error) {
	var in struct{ Name string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, thaw.Errorf("create tenant", thaw.Invalid, "%w", err)
	}
	account, err := n.accounts.Create(r.Context(), in.Name)
	if err == nil {
		n.tenants.weights.Add(1)
	}
	return account, err
}

func (n *node) ingestStatus(r *http.Request) (any, error) {
	account, err := n.tenant(r)
	if err != nil {
		return nil, err
	}
	function, _, err := n.control.Get(r.Context(), account.ID, r.PathValue("function"), "")
	if err != nil {
		return nil, err
	}
	p, _ := n.control.Progress(function)
	return ingestStatus{Done: p.DoneBytes, Total: p.TotalBytes, NewChunks: int(p.NewChunks), Shared: int(p.SharedChunks)}, nil
}

// streamLogs writes a function's log as text, and goes on with follow=1 until
// the reader goes away, or the server stops and no invocation is waited for.
func (n *node) streamLogs(w http.ResponseWriter, r *http.Request) {
	account, err := n.tenant(r)
	if err != nil {
		n.respond(w, r, nil, err)
		return
	}
	function, _, err := n.control.Get(r.Context(), account.ID, r.PathValue("function"), "")
	if err != nil {
		n.respond(w, r, nil, err)
		return
	}
	query := r.URL.Query()
	tail, _ := strconv.Atoi(query.Get("tail"))                   // all without
	since, _ := time.Parse(time.RFC3339Nano, query.Get("since")) // from the beginning without
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	flush := http.NewResponseController(w)
	_ = flush.Flush() // the reader shall know that it may wait
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-n.drained:
			cancel()
		case <-ctx.Done():
		}
	}()
	options := logs.ReadOptions{Follow: query.Get("follow") == "1", Last: tail, Since: since}
	for event, err := range n.logs.Read(ctx, account.ID, function.Name, options) {
		if err != nil {
			n.log.Debug("a log's reader ended", "error", err)
			return
		}
		if _, err := fmt.Fprintf(w, "%s %s\n", event.Time.Format(time.RFC3339Nano), event.Text); err != nil {
			return
		}
		if options.Follow {
			_ = flush.Flush()
		}
	}
}
