// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/source"
)

// locked is a registry with a login, basic or by tokens of a server of its
// own, as most registries have it.
func locked(t *testing.T, bearer bool) string {
	t.Helper()
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "al" || password != "right" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"token":"a-token"}`)
	}))
	t.Cleanup(tokens.Close)
	open := registry.New()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case bearer && r.Header.Get("Authorization") != "Bearer a-token":
			realm := strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1)
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test"`, realm))
			w.WriteHeader(http.StatusUnauthorized)
		case !bearer && (user != "al" || password != "right"):
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			open.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// loginAs is a tenant's login with that password.
func loginAs(password string) func(context.Context, thaw.TenantID, string) (string, string, error) {
	return func(context.Context, thaw.TenantID, string) (string, string, error) { return "al", password, nil }
}

// TestLogin: with the right login the image and its layers come; without, or
// with a wrong one, the error names the image and what to do.
func TestLogin(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		t.Run(fmt.Sprintf("bearer=%v", bearer), func(t *testing.T) {
			at := locked(t, bearer)
			ref := at + "/team/app:v1"
			push(t, ref, host(t), remote.WithAuth(&authn.Basic{Username: "al", Password: "right"}))
			egress := allow(t, "http://127.0.0.1", "http://localhost")
			resolver := source.New(source.Options{Store: startOwn(t).store, Egress: egress, Credentials: loginAs("right")})
			image, err := resolver.Resolve(t.Context(), alice, ref)
			if err != nil {
				t.Fatal(err)
			}
			in, err := image.Layers[0].Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, in); err != nil || n != image.Layers[0].Bytes {
				t.Errorf("read %d of %d bytes: %v", n, image.Layers[0].Bytes, err)
			}
			if err := in.Close(); err != nil {
				t.Error(err)
			}
			for name, credentials := range map[string]func(context.Context, thaw.TenantID, string) (string, string, error){"none": nil, "wrong": loginAs("wrong")} {
				resolver := source.New(source.Options{Store: startOwn(t).store, Egress: egress, Credentials: credentials})
				_, err := resolver.Resolve(t.Context(), alice, ref)
				expectError(t, err, thaw.Denied, "no permission to access the source image "+ref+`: log in with "thaw registry login `+at)
				if err != nil && strings.Contains(err.Error(), "wrong") {
					t.Errorf("%s: the password is shown: %v", name, err)
				}
			}
			if err := resolver.CheckLogin(t.Context(), at, "al", "right"); err != nil {
				t.Error(err)
			}
			expectError(t, resolver.CheckLogin(t.Context(), at, "al", "wrong"), thaw.Denied, "log in to "+at)
		})
	}
}

// allow is the operator's list.
func allow(t *testing.T, list ...string) source.Egress {
	t.Helper()
	egress, err := source.ParseEgress(list)
	if err != nil {
		t.Fatal(err)
	}
	return egress
}

// TestLedAstray: a registry that may be asked leads to what may not, by every
// way there is.
func TestLedAstray(t *testing.T) {
	asked := false
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer secret.Close()
	elsewhere := strings.Replace(secret.URL, "127.0.0.1", "localhost", 1)
	for name, lead := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"ping": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
			return true
		},
		"manifest": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
				return true
			}
			return false
		},
		"config": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
				return true
			}
			return false
		},
		"realm": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+elsewhere+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			leading := false
			open := registry.New()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if leading && lead(w, r) {
					return
				}
				open.ServeHTTP(w, r)
			}))
			defer s.Close()
			ref := strings.TrimPrefix(s.URL, "http://") + "/app:v1"
			push(t, ref, host(t))
			leading = true
			for _, list := range [][]string{{"http://127.0.0.1"}, {"http://127.0.0.1", "https://localhost"}} {
				resolver := source.New(source.Options{Store: startOwn(t).store, Egress: allow(t, list...), Credentials: loginAs("right")})
				_, err := resolver.Resolve(t.Context(), alice, ref)
				if thaw.KindOf(err) != thaw.Denied || err == nil {
					t.Errorf("%v: %v (%v)", list, err, thaw.KindOf(err))
				}
			}
			if asked {
				t.Error("the server that may not be asked was asked")
			}
		})
	}
}
