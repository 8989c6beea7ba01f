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

	tokenVersion = "thaw1."

	// tokenDomain keeps these signatures apart from whatever else a secret
	// may sign.
	tokenDomain = "thaw registry token 1\n"
)

// Claims are what a token says: that its bearer may act for a tenant, in some
// scope, for some time.
type Claims struct {
	Tenant  thaw.TenantID `json:"t"`
	Key     string        `json:"k"`           // the access key that asked for it; the token dies with it
	Scope   string        `json:"s,omitempty"` // "" for a login, or of [BlobScope]
	Expires int64         `json:"e"`           // seconds of Unix time
}

// BlobScope is the scope of a token that reads one blob of one repository.
func BlobScope(repository string, h v1.Hash) string {
	return "blob " + repository + "@" + h.String()
}

// TokenIssuer makes and checks tokens. They are signed and not stored: they
// survive a restart and are valid on every host that has the secret, until
// they expire or the access key that asked for them is no more. The zero
// TokenIssuer is unusable; it is safe for concurrent use.
type TokenIssuer struct {
	secret []byte
	lookup Lookup
}

// NewTokenIssuer returns an issuer that signs with secret, at least 32 bytes
// that are as hard to guess as a key. It keeps a copy. lookup tells whether the
// access key of a token is still its tenant's.
func NewTokenIssuer(secret []byte, lookup Lookup) (*TokenIssuer, error) {
	if len(secret) < minSecretBytes {
		return nil, thaw.Errorf("registry: tokens", thaw.Invalid, "the secret has %d bytes, at least %d are needed", len(secret), minSecretBytes)
	}
	return &TokenIssuer{secret: append([]byte(nil), secret...), lookup: lookup}, nil
}

// Issue returns a token that says c. It has no whitespace and no colon, so that
// it can be a password.
func (t *TokenIssuer) Issue(c Claims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", thaw.Wrap("registry: issue a token", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return tokenVersion + encode(payload) + "." + encode(t.sign(payload)), nil
}

// Verify returns what the token says, if it was issued with this secret, has
// not expired at now, and its access key is still its tenant's; else its error
// is UNAUTHORIZED, or what kept the key from being looked up.
func (t *TokenIssuer) Verify(ctx context.Context, token string, now time.Time) (Claims, error) {
	var c Claims
	refused := refuse(CodeUnauthorized, "the token is not valid, or has expired: log in again")
	rest, ok := strings.CutPrefix(token, tokenVersion)
	if !ok {
		return c, refused
	}
	encoded, signature, _ := strings.Cut(rest, ".")
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return c, refused
	}
	mac, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(mac, t.sign(payload)) {
		return c, refused
	}
	if err := json.Unmarshal(payload, &c); err != nil || now.Unix() >= c.Expires {
		return Claims{}, refused
	}
	_, tenant, err := t.lookup(ctx, c.Key)
	if err != nil && !unknownKey(err) {
		return Claims{}, err
	}
	if err != nil || tenant != c.Tenant {
		return Claims{}, refused
	}
	return c, nil
}

func (t *TokenIssuer) sign(payload []byte) []byte {
	mac := hmac.New(sha256.New, t.secret)
	mac.Write([]byte(tokenDomain)) // never fails
	mac.Write(payload)
	return mac.Sum(nil)
}
