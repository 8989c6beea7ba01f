// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"net/http"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/source"
	"thaw.dev/thaw/tenant"
)

// maxLoginBytes bounds a login's request; tokens have a few KiB.
const maxLoginBytes = 1 << 20

func (n *node) listLogins(r *http.Request) (any, error) {
	account, err := n.tenant(r)
	if err != nil {
		return nil, err
	}
	return n.logins.List(r.Context(), account.ID)
}

// registryLogin stores a login that the registry takes.
func (n *node) registryLogin(r *http.Request) (any, error) {
	account, err := n.tenant(r)
	if err != nil {
		return nil, err
	}
	var in loginRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, maxLoginBytes)).Decode(&in); err != nil {
		return nil, thaw.Errorf("log in", thaw.Invalid, "%w", err)
	}
	host, err := source.RegistryHost(in.Registry)
	if err != nil {
		return nil, err
	}
	if in.User == "" || in.Password == "" {
		return nil, thaw.Errorf("log in to "+host, thaw.Invalid, "the user or the password is empty")
	}
	if err := n.resolver.CheckLogin(r.Context(), host, in.User, in.Password); err != nil {
		return nil, err
	}
	if err := n.logins.Put(r.Context(), account.ID, host, in.User, in.Password); err != nil {
		return nil, err
	}
	return tenant.Login{Registry: host, User: in.User}, nil
}

func (n *node) registryLogout(r *http.Request) (any, error) {
	account, err := n.tenant(r)
	if err != nil {
		return nil, err
	}
	host, err := source.RegistryHost(r.URL.Query().Get("registry"))
	if err != nil {
		return nil, err
	}
	return nil, n.logins.Delete(r.Context(), account.ID, host)
}
