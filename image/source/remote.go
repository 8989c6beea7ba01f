// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

const (
	// maxRedirects follows net/http.
	maxRedirects = 10

	// dialogueTimeout bounds logging in and fetching a manifest. Layers have no
	// such bound, only one on silence.
	dialogueTimeout = 60 * time.Second
)

// acceptedManifests is what we ask for. Schema 1 is among them so that a
// registry which has nothing else says so, and we can.
var acceptedManifests = strings.Join([]string{
	string(types.OCIManifestSchema1), string(types.OCIImageIndex),
	string(types.DockerManifestSchema2), string(types.DockerManifestList),
	string(types.DockerManifestSchema1Signed), string(types.DockerManifestSchema1),
}, ",")

// remoteRepository reads from another registry.
type remoteRepository struct {
	client *http.Client
	repo   name.Repository
}

// openRemote logs in at another registry.
func (r *Resolver) openRemote(ctx context.Context, tenant thaw.TenantID, ref reference) (repository, error) {
	host, err := RegistryHost(ref.host)
	if err != nil {
		return nil, err
	}
	repo, err := name.NewRepository(host+"/"+ref.repo, r.nameOptions(host)...)
	if err != nil {
		return nil, thaw.Errorf(op, thaw.Invalid, "%w", err)
	}
	auth := authn.Anonymous
	if r.options.Credentials != nil {
		user, password, err := r.options.Credentials(ctx, tenant, host)
		if err != nil {
			return nil, err
		}
		if user != "" {
			auth = &authn.Basic{Username: user, Password: password}
		}
	}
	client, err := r.logIn(ctx, repo.Registry, auth, repo.Scope(transport.PullScope))
	if err != nil {
		return nil, err
	}
	return &remoteRepository{client: client, repo: repo}, nil
}

// nameOptions say how a registry is spoken to.
func (r *Resolver) nameOptions(host string) []name.Option {
	if r.options.Egress.plain(host) {
		return []name.Option{name.Insecure}
	}
	return nil
}

// logIn returns a client that is logged in at a registry, for the scopes if it
// makes tokens.
func (r *Resolver) logIn(ctx context.Context, registry name.Registry, auth authn.Authenticator, scopes ...string) (*http.Client, error) {
	base := transport.NewRetry(&secureTransport{inner: r.transport, egress: r.options.Egress})
	ctx, cancel := context.WithTimeout(ctx, dialogueTimeout)
	defer cancel()
	authenticated, err := transport.NewWithContext(ctx, registry, auth, base, scopes)
	if err != nil {
		return nil, remoteError(err)
	}
	return &http.Client{Transport: authenticated, CheckRedirect: checkRedirect}, nil
}

// CheckLogin asks another registry whether it takes a login. Errors:
// [thaw.Denied] where it does not, [thaw.Invalid] for a host that is none,
// [thaw.Unavailable] where it can't be asked.
func (r *Resolver) CheckLogin(ctx context.Context, host, user, password string) error {
	registry, err := name.NewRegistry(host, r.nameOptions(host)...)
	if err != nil {
		return thaw.Errorf("log in to "+host, thaw.Invalid, "%w", err)
	}
	client, err := r.logIn(ctx, registry, &authn.Basic{Username: user, Password: password})
	if err != nil {
		return thaw.Wrap("log in to "+host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialogueTimeout)
	defer cancel()
	base := url.URL{Scheme: registry.Scheme(), Host: registry.RegistryStr(), Path: "/v2/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String(), nil)
	if err != nil {
		return thaw.Errorf("log in to "+host, thaw.Invalid, "%w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return thaw.Wrap("log in to "+host, remoteError(err))
	}
	defer resp.Body.Close() // only read
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return thaw.Wrap("log in to "+host, remoteError(err))
	}
	return nil
}

// secureTransport refuses plain HTTP but where it is allowed. The library above
// it would fall back to it for private networks too, with the credentials.
type secureTransport struct {
	inner  http.RoundTripper
	egress Egress
}

func (t *secureTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !t.egress.plain(r.URL.Host) {
		return nil, thaw.Errorf(op, thaw.Denied,
			"%s is not asked by plain HTTP; the operator can permit it: thaw serve --allow-registry http://%s", r.URL.Host, r.URL.Host)
	}
	return t.inner.RoundTrip(r)
}

// checkRedirect follows registries to their storage; where that may be, the
// transport says.
func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return errors.New("too many redirects")
	}
	return nil
}

func (r *remoteRepository) url(kind, what string) string {
	u := url.URL{Scheme: r.repo.Scheme(), Host: r.repo.RegistryStr(), Path: "/v2/" + r.repo.RepositoryStr() + "/" + kind + "/" + what}
	return u.String()
}

func (r *remoteRepository) manifest(ctx context.Context, tagOrDigest string) (manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, dialogueTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url("manifests", tagOrDigest), nil)
	if err != nil {
		return manifest{}, thaw.Errorf(op, thaw.Invalid, "%w", err)
	}
	req.Header.Set("Accept", acceptedManifests)
	resp, err := r.client.Do(req)
	if err != nil {
		return manifest{}, remoteError(err)
	}
	defer resp.Body.Close() // only read
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return manifest{}, remoteError(err)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, registry.MaxManifestBytes+1))
	if err != nil {
		return manifest{}, remoteError(err)
	}
	if len(data) > registry.MaxManifestBytes {
		return manifest{}, unusablef("its manifest has more than %d bytes", registry.MaxManifestBytes)
	}
	return checkManifest(resp.Header, tagOrDigest, data)
}

// checkManifest makes bytes from the network a manifest with a digest that is
// theirs. Where a tag was asked for, the digest is what they have.
func checkManifest(header http.Header, tagOrDigest string, data []byte) (manifest, error) {
	m := manifest{mediaType: strings.TrimSpace(strings.Split(header.Get("Content-Type"), ";")[0]), data: data}
	if h, err := v1.NewHash(tagOrDigest); err == nil {
		m.digest = h
		return m, checkDigest(h, data)
	}
	hasher, err := v1.Hasher("sha256")
	if err != nil {
		return m, thaw.Wrap(op, err)
	}
	hasher.Write(data) // never fails
	m.digest = hashOf("sha256", hasher)
	return m, nil
}

// blob streams a blob, taking up again what breaks.
func (r *remoteRepository) blob(ctx context.Context, d v1.Descriptor) (body, error) {
	return openStream(ctx, d.Size, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return r.blobFrom(ctx, d.Digest, offset)
	})
}

// blobFrom opens a blob at an offset. A registry that does not know ranges
// sends it from its beginning, which is then read and dropped.
func (r *remoteRepository) blobFrom(ctx context.Context, h v1.Hash, offset int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url("blobs", h.String()), nil)
	if err != nil {
		return nil, thaw.Errorf(op, thaw.Invalid, "%w", err)
	}
	// Asked for as stored: a transport that unpacks gzip would change the bytes.
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, remoteError(err)
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return nil, errors.Join(remoteError(err), resp.Body.Close())
	}
	if offset == 0 {
		return resp.Body, nil
	}
	if resp.StatusCode == http.StatusPartialContent {
		if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", offset)) {
			return nil, errors.Join(thaw.Errorf(op, thaw.Corrupt, "asked for bytes from %d, got %q", offset, got), resp.Body.Close())
		}
		return resp.Body, nil
	}
	if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
		return nil, errors.Join(remoteError(err), resp.Body.Close())
	}
	return resp.Body, nil
}

// remoteError gives the failure of another registry its kind.
func remoteError(err error) error {
	kind := thaw.Unavailable
	if refused, ok := errors.AsType[*transport.Error](err); ok {
		switch {
		case refused.StatusCode == http.StatusNotFound:
			kind = thaw.NotFound
		case refused.StatusCode == http.StatusUnauthorized, refused.StatusCode == http.StatusForbidden:
			kind = thaw.Denied
		case refused.StatusCode == http.StatusTooManyRequests:
			kind = thaw.Throttled
		case refused.StatusCode < http.StatusInternalServerError:
			kind = thaw.Invalid
		}
	} else if known, ok := errors.AsType[*thaw.Error](err); ok {
		kind = known.Kind
	} else if errors.Is(err, context.Canceled) {
		kind = thaw.Canceled
	}
	return &thaw.Error{Op: op, Kind: kind, Err: err}
}
