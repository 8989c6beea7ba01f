// SPDX-License-Identifier: Apache-2.0

// Package request is what the handlers of a server say of a request to whoever
// counts and logs it: one [Info] travels with the request's context, is made by
// the outermost handler, and is read by it when the answer is out. It holds
// nothing secret.
package request

import (
	"context"

	"github.com/google/uuid"
)

// Info is one request. It belongs to the goroutine that serves the request.
type Info struct {
	ID        string // a UUID
	Tenant    string // "" until it is authenticated, see Authenticated
	Operation string // "" where the path says it
	Err       error  // why the answer is an error, if it is the host's fault

	// Known is told of the tenant, once it is proven. It may be nil.
	Known func(tenant string)
}

// Authenticated says whose the request is; "" is nobody's.
func (i *Info) Authenticated(tenant string) {
	if i.Tenant = tenant; tenant != "" && i.Known != nil {
		i.Known(tenant)
	}
}

type key struct{}

// With returns a context that carries a new Info, and that.
func With(ctx context.Context) (context.Context, *Info) {
	info := &Info{ID: uuid.NewString()}
	return context.WithValue(ctx, key{}, info), info
}

// Of returns the Info that ctx carries, or a new one that nobody reads.
func Of(ctx context.Context) *Info {
	if info, ok := ctx.Value(key{}).(*Info); ok {
		return info
	}
	return &Info{ID: uuid.NewString()}
}
