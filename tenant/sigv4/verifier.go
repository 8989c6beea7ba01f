// SPDX-License-Identifier: Apache-2.0

// Package sigv4 checks that a request was signed by the holder of an access
// key, with AWS Signature Version 4: the forms that clients of AWS send, by
// header or by query (presigned), with the payload's hash, with an unsigned
// payload, or in signed chunks (aws-chunked), trailers included.
//
// It promises that a request whose method, path, query, signed headers or body
// were changed by anyone without the secret is refused, that a request is
// accepted for five minutes around its date only (presigned ones for the time
// they name), and that every x-amz- header is covered by the signature. It
// knows keys only through a function it is given, and it never stores a
// secret: it caches the daily keys derived from one.
package sigv4

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/spool"
)

const (
	// maxSkew is how far a request's date may be from ours: AWS allows five
	// minutes.
	maxSkew = 5 * time.Minute

	// DefaultMaxBodyBytes bounds a body where the configuration does not: the
	// largest request that Lambda and ECR accept, a layer part of 10 MiB in
	// base64, and its envelope.
	DefaultMaxBodyBytes = 14 << 20

	defaultSpoolBytes = 1 << 30
)

// Config says whose signatures are good for what.
type Config struct {
	// Lookup returns the secret of an access key and the tenant it belongs
	// to; [thaw.NotFound] where there is no such key. It is called for every
	// request and should answer from memory.
	Lookup func(ctx context.Context, accessKeyID string) (secret string, tenant thaw.TenantID, err error)

	// Services are the services that a request may be scoped to, as
	// "lambda", "ecr". At least one.
	Services []string

	// Hosts are names, HOST or HOST:PORT, by which clients know this server. A
	// signature that is good for one of them, but not for the request's own, is
	// refused as any other, and told what has changed it.
	Hosts []string

	// MaxBodyBytes bounds the bytes of a body, decoded; 0 means
	// [DefaultMaxBodyBytes].
	MaxBodyBytes int64

	// Spool takes the bodies in; nil means one of the verifier's own, in the
	// folder for temporary files.
	Spool *spool.Store

	// Origin tells where a request comes from: what bodies of unverified
	// requests share is shared by key and origin. It may be nil.
	Origin func(ctx context.Context) string

	// Known is told of each request whose signature is good, before its body is
	// read. It may be nil.
	Known func(ctx context.Context, tenant thaw.TenantID)

	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// Identity is who signed a request, and for what.
type Identity struct {
	Tenant      thaw.TenantID
	AccessKeyID string
	Region      string // as the client believes; any is accepted
	Service     string // one of Config.Services
}

// Verifier checks requests. It is safe for concurrent use.
type Verifier struct {
	config Config
	keys   keyCache
}

// New returns a verifier; it does no I/O.
func New(config Config) *Verifier {
	if config.MaxBodyBytes == 0 {
		config.MaxBodyBytes = DefaultMaxBodyBytes
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Spool == nil {
		config.Spool = spool.New("", defaultSpoolBytes)
	}
	return &Verifier{config: config, keys: keyCache{byScope: make(map[keyScope]derivedKey)}}
}

// Verify returns who signed r, which must be as it came from the network: the
// path not yet rewritten, the Host header as the client sent it.
//
// On success the whole body has come and is authentic; r.Body holds it, a
// [spool.Body] that whoever serves the request closes. aws-chunked framing is
// removed, from r.Header and r.ContentLength too. [ReadBody] returns all of it.
//
// Errors: [thaw.Denied] with a [Rejection] in the chain; [thaw.TooLarge];
// [thaw.Invalid] for a malformed body, [thaw.Canceled] where it does not come,
// [thaw.Throttled] where too many come at once; whatever Lookup failed with.
func (v *Verifier) Verify(ctx context.Context, r *http.Request) (Identity, error) {
	const op = "verify signature"
	sig, err := parseSignature(r)
	if err != nil {
		return Identity{}, err
	}
	if err := sig.checkScope(v.config.Services); err != nil {
		return Identity{}, err
	}
	if err := sig.checkTime(v.config.Now()); err != nil {
		return Identity{}, err
	}
	if err := sig.checkHeaders(r); err != nil {
		return Identity{}, err
	}
	secret, tenant, err := v.config.Lookup(ctx, sig.accessKeyID)
	switch {
	case thaw.KindOf(err) == thaw.NotFound && err != nil:
		return Identity{}, reject(UnrecognizedClient, "The security token included in the request is invalid.")
	case err != nil:
		return Identity{}, thaw.Wrap(op, err)
	}
	payload, err := v.payloadHash(r, sig)
	if err != nil {
		return Identity{}, thaw.Wrap(op, err)
	}
	key, cached := v.keys.get(sig.accessKeyID, secret, sig.scope)
	if !sig.matches(r, key, payload) {
		return Identity{}, v.mismatch(r, sig, key, payload)
	}
	if !cached {
		// Only now: else anyone who knows a key's id could fill the cache.
		v.keys.put(sig.accessKeyID, secret, sig.scope, key)
	}
	if v.config.Known != nil {
		v.config.Known(ctx, tenant)
	}
	if err := v.guardBody(r, sig, key, payload); err != nil {
		return Identity{}, err
	}
	if _, taken := r.Body.(*spool.Body); !taken {
		if err := v.take(r, string(tenant), nil); err != nil {
			return Identity{}, err
		}
	}
	return Identity{Tenant: tenant, AccessKeyID: sig.accessKeyID,
		Region: sig.scope.region, Service: sig.scope.service}, nil
}

// mismatch says why a signature is refused. A proxy that gives the request another
// Host is a cause that its sender can't see.
func (v *Verifier) mismatch(r *http.Request, sig *signature, key signingKey, payload string) error {
	const differs = "The request signature we calculated does not match the signature you provided. "
	name, _, _ := net.SplitHostPort(r.Host)
	for _, host := range append([]string{r.Header.Get("X-Forwarded-Host"), name}, v.config.Hosts...) {
		if host == "" || host == r.Host {
			continue
		}
		sent := *r
		if sent.Host = host; sig.matches(&sent, key, payload) {
			return reject(InvalidSignature, differs+"It was made for the host '%s', but the request came with the host '%s': "+
				"a proxy on the way must pass the Host header on as it is.", clip(host), clip(r.Host))
		}
	}
	return reject(InvalidSignature, differs+"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// matches reports whether the signature is the one that key gives. Clients
// disagree about the order of query parameters whose names or values need
// escapes: the specification and most sort them escaped, the Go SDK unescaped.
// Both orders hold the same parameters, so either proves the same.
func (s *signature) matches(r *http.Request, key signingKey, payload string) bool {
	want, err := hex.DecodeString(s.signature)
	if err != nil {
		return false
	}
	query := canonicalQuery(r.URL.RawQuery, sortEscaped)
	got := key.sign(s.stringToSign(s.canonicalRequest(r, query, payload)))
	if subtle.ConstantTimeCompare(got, want) == 1 {
		return true
	}
	other := canonicalQuery(r.URL.RawQuery, sortPlain)
	if other == query {
		return false
	}
	got = key.sign(s.stringToSign(s.canonicalRequest(r, other, payload)))
	return subtle.ConstantTimeCompare(got, want) == 1
}

func (s *signature) checkScope(services []string) error {
	if s.scope.terminator != "aws4_request" {
		return reject(InvalidSignature, "Credential should be scoped with a valid terminator: 'aws4_request', not '%s'.", clip(s.scope.terminator))
	}
	if !slices.Contains(services, s.scope.service) {
		return reject(InvalidSignature, "Credential should be scoped to correct service: '%s'. ", services[0])
	}
	if !isRegion(s.scope.region) {
		return reject(InvalidSignature, "Credential should be scoped to a valid region, not '%s'. ", clip(s.scope.region))
	}
	if day := s.date.Format(dayFormat); day != s.scope.day {
		return reject(InvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			clip(s.scope.day), day, s.date.Format(timeFormat))
	}
	return nil
}

func (s *signature) checkTime(now time.Time) error {
	now = now.UTC()
	if s.date.After(now.Add(maxSkew)) {
		return reject(InvalidSignature, "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			s.date.Format(timeFormat), now.Add(maxSkew).Format(timeFormat), now.Format(timeFormat))
	}
	if s.presigned {
		if end := s.date.Add(s.expires); now.After(end) {
			return reject(InvalidSignature, "Signature expired: %s is now earlier than %s (%s - %d sec.)",
				s.date.Format(timeFormat), now.Add(-s.expires).Format(timeFormat), now.Format(timeFormat), int(s.expires.Seconds()))
		}
		return nil
	}
	if oldest := now.Add(-maxSkew); s.date.Before(oldest) {
		return reject(InvalidSignature, "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			s.date.Format(timeFormat), oldest.Format(timeFormat), now.Format(timeFormat))
	}
	return nil
}

// isRegion keeps oddities out of the key cache and out of logs.
func isRegion(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
