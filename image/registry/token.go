// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

const (
	// TokenTTL is how long a login password is good for, as in ECR.
	TokenTTL = 12 * time.Hour

	// DownloadTTL is how long a download address is good for.
	DownloadTTL = time.Hour

	// minSecretBytes is the strength of the signature's hash.
	minSecretBytes = 32

	tokenVersion = "thaw2."

	// These keep signatures of tokens and marks of keys apart from each other
	// and from whatever else a secret may sign.
	tokenDomain = "thaw registry token 2\n"
	keyDomain   = "thaw registry key 2\n"
)

// Claims are what a token says: that its bearer may act for a tenant, in some
// scope, for some time.
type Claims struct {
	Tenant  thaw.TenantID
	Key     string // the access key that asked for it; the token dies with it
	Scope   string // "" for a login, or of [BlobScope]
	Expires int64  // seconds of Unix time
}

// payload is what a token holds, and whoever sees one may read. Download
// addresses are passed on, so it names no access key.
type payload struct {
	Tenant  thaw.TenantID `json:"t"`
	Mark    []byte        `json:"m"` // of the access key, see TokenIssuer.mark
	Scope   string        `json:"s,omitempty"`
	Expires int64         `json:"e"`
}

// CurrentKey finds the id of a tenant's access key; [thaw.NotFound] where there
// is no such tenant, "" where it has none.
type CurrentKey func(ctx context.Context, tenant thaw.TenantID) (accessKey string, err error)

// BlobScope is the scope of a token that reads one blob of one repository.
func BlobScope(repository string, h v1.Hash) string {
	return "blob " + repository + "@" + h.String()
}

// TokenIssuer makes and checks tokens. They are signed and not stored: they
// survive a restart and are valid on every host that has the secret, until
// they expire or the access key that asked for them is no more. The zero
// TokenIssuer is unusable; it is safe for concurrent use.
type TokenIssuer struct {
	secret  []byte
	current CurrentKey
}

// NewTokenIssuer returns an issuer that signs with secret, at least 32 bytes
// that are as hard to guess as a key. It keeps a copy. current tells whether the
// access key of a token is still its tenant's.
func NewTokenIssuer(secret []byte, current CurrentKey) (*TokenIssuer, error) {
	if len(secret) < minSecretBytes {
		return nil, thaw.Errorf("registry: tokens", thaw.Invalid, "the secret has %d bytes, at least %d are needed", len(secret), minSecretBytes)
	}
	return &TokenIssuer{secret: append([]byte(nil), secret...), current: current}, nil
}

// Issue returns a token that says c. It has no whitespace and no colon, so that
// it can be a password.
func (t *TokenIssuer) Issue(c Claims) (string, error) {
	text, err := json.Marshal(payload{c.Tenant, t.mark(c.Key), c.Scope, c.Expires})
	if err != nil {
		return "", thaw.Wrap("registry: issue a token", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return tokenVersion + encode(text) + "." + encode(t.mac(tokenDomain, text)), nil
}

// Verify returns what the token says, if it was issued with this secret, has
// not expired at now, and its access key is still its tenant's; else its error
// is UNAUTHORIZED, or what kept the key from being looked up.
func (t *TokenIssuer) Verify(ctx context.Context, token string, now time.Time) (Claims, error) {
	refused := refuse(CodeUnauthorized, "the token is not valid, or has expired: log in again")
	rest, ok := strings.CutPrefix(token, tokenVersion)
	if !ok {
		return Claims{}, refused
	}
	encoded, signature, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return Claims{}, refused
	}
	mac, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(mac, t.mac(tokenDomain, text)) {
		return Claims{}, refused
	}
	var p payload
	if err := json.Unmarshal(text, &p); err != nil || now.Unix() >= p.Expires {
		return Claims{}, refused
	}
	key, err := t.current(ctx, p.Tenant)
	if err != nil && !unknownKey(err) {
		return Claims{}, err
	}
	if err != nil || key == "" || !hmac.Equal(p.Mark, t.mark(key)) {
		return Claims{}, refused
	}
	return Claims{p.Tenant, key, p.Scope, p.Expires}, nil
}

// mark stands for an access key in a token.
func (t *TokenIssuer) mark(accessKey string) []byte { return t.mac(keyDomain, []byte(accessKey))[:16] }

func (t *TokenIssuer) mac(domain string, text []byte) []byte {
	mac := hmac.New(sha256.New, t.secret)
	mac.Write([]byte(domain)) // never fails
	mac.Write(text)
	return mac.Sum(nil)
}
