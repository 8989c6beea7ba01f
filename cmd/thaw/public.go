// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/registry/ecr"
	"thaw.dev/thaw/internal/door"
	"thaw.dev/thaw/invoke/api"
	"thaw.dev/thaw/tenant/sigv4"
)

// publicHandler is what one port offers: the registry below /v2/, ECR's API as
// POSTs to / that name its target, and Lambda's API for everything else.
func (n *node) publicHandler() http.Handler {
	// A signature that was made for one service must not do anything at another.
	verifier := func(service string) *sigv4.Verifier {
		return sigv4.New(sigv4.Config{Lookup: n.lookup, Services: []string{service}, Hosts: n.address.hosts(),
			Spool: n.bodies, Origin: door.Address,
			Known: func(ctx context.Context, t thaw.TenantID) { door.Known(ctx, string(t)) }})
	}
	ofECR := verifier("ecr")
	images := registry.NewHandler(n.registry, registry.BasicAuth(n.tokens, n.lookup), n.tokens)
	repositories := ecr.New(ecr.Config{
		Store: n.registry, Tokens: n.tokens, Region: n.cmd.Region, Log: n.log, Endpoint: n.address.of,
		Identify: func(r *http.Request) (thaw.TenantID, string, error) {
			id, err := ofECR.Verify(r.Context(), r)
			return id.Tenant, id.AccessKeyID, err
		},
		DeniedCode: func(err error) (string, string) {
			if rejection, ok := errors.AsType[*sigv4.Rejection](err); ok {
				return string(rejection.Code), rejection.Message
			}
			return "AccessDeniedException", thaw.Tell(err)
		},
	})
	n.share(repositories.Pools()...)
	functions := api.New(api.Options{Auth: verifier("lambda"), Control: n.control, Invoker: invoker{n.worker}, Log: n.log})
	toRegistry, toECR, toLambda := n.observed(surfaceRegistry, images), n.observed(surfaceECR, repositories), n.observed(surfaceLambda, functions)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.address.noticeProxy(n.log, r)
		switch {
		case r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/"):
			toRegistry.ServeHTTP(w, r)
		case ecr.IsRequest(r):
			toECR.ServeHTTP(w, r)
		default:
			toLambda.ServeHTTP(w, r)
		}
	})
}
