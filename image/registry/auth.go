// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"

	thaw "thaw.dev/thaw"
)

// Auth finds out who makes a request. An error of kind [thaw.Denied] becomes a
// 401 that asks for credentials; a request without any is not an error but the
// anonymous [Identity].
type Auth func(*http.Request) (Identity, error)

// Lookup finds the secret and the tenant of an access key; [thaw.NotFound] or
// [thaw.Denied] where there is no such key.
type Lookup func(ctx context.Context, accessKey string) (secret string, tenant thaw.TenantID, err error)

// unknownKey reports whether a [Lookup] failed since there is no such key.
func unknownKey(err error) bool {
	kind := thaw.KindOf(err)
	return kind == thaw.NotFound || kind == thaw.Denied
}

// tokenUser is the user name that ECR's clients send with a token.
const tokenUser = "AWS"

// BasicAuth is the [Auth] of docker's tools: user "AWS" with a login token as
// password, or an access key with its secret. No user and no password at all
// is what some tools send for anonymous.
func BasicAuth(tokens *TokenIssuer, lookup Lookup) Auth {
	return func(r *http.Request) (Identity, error) {
		user, password, ok := r.BasicAuth()
		switch {
		case !ok && r.Header.Get("Authorization") == "", ok && user == "" && password == "":
			return Identity{}, nil
		case !ok:
			return Identity{}, refuse(CodeUnauthorized, "only basic authentication is understood")
		case user == tokenUser:
			claims, err := tokens.Verify(r.Context(), password, time.Now())
			if err == nil && claims.Scope != "" {
				err = refuse(CodeUnauthorized, "this token is not for logging in")
			}
			if err != nil {
				return Identity{}, err
			}
			return Identity{Tenant: claims.Tenant}, nil
		}
		secret, tenant, err := lookup(r.Context(), user)
		if err != nil && !unknownKey(err) {
			return Identity{}, err
		}
		// Compared also where there is no such key, and by hashes, so that the
		// time tells neither whether there is one nor how long its secret is.
		want, got := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(password))
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || err != nil || secret == "" {
			return Identity{}, refuse(CodeUnauthorized, "wrong access key or secret")
		}
		return Identity{Tenant: tenant}, nil
	}
}
