// SPDX-License-Identifier: Apache-2.0

// Package source finds out what an image reference means: it resolves it, once,
// to a digest, and returns the image's config and its layers, ready for ingest.
// References to our own registry are read from its store with the rights of the
// caller; others are fetched from the registry they name. [LoadLocal] opens an
// image from a file or folder, for pushing.
//
// It knows registries, media types and platforms, and checks what can be known
// before a layer is read: that there is a config for this kind of host, that
// layers and config agree, that nothing is of a kind which can't be run. It
// does not look into layers and does not verify their bytes: ingest does, while
// it reads them anyway.
//
// # Layers of other registries
//
// A layer is streamed from its registry each time it is opened, and never
// written to disk here. Ingest opens one once, or twice where its small files
// found no room to wait: that saves a temporary file of the size of the image. A connection that breaks is
// taken up again where it broke (Range), a few times without progress; so a
// large image does not begin anew because of one lost connection.
//
// # Where references lead
//
// A tenant writes the reference, so [Egress] decides where this host lets
// itself be led: to public addresses by HTTPS, and beyond them to what the
// operator lists. Plain HTTP is spoken only where the list says so, on loopback
// and in private networks too, since credentials would go over it in the clear.
package source

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/registry"
)

const (
	// MaxLayers is how many layers an image may have: the limit that docker
	// has always had, so that no image in use is over it.
	MaxLayers = 127

	// maxConfigBytes bounds a config, which is read into memory.
	maxConfigBytes = 8 << 20
)

// Options say where images may come from.
type Options struct {
	// Store is our own registry.
	Store *registry.Store

	// Hosts are the addresses, "host:port", by which clients know our own
	// registry. Where one is a loopback or wildcard address, the other names
	// of loopback count too; where one is a wildcard address, so do this
	// machine's name and addresses.
	Hosts []string

	// Credentials returns a tenant's login at another registry, whose host is
	// in the form of [RegistryHost]; empty strings, or a nil function, are
	// anonymous.
	Credentials func(ctx context.Context, tenant thaw.TenantID, host string) (user, password string, err error)

	// Egress says which other registries may be asked. Its zero value allows
	// public addresses, by HTTPS.
	Egress Egress

	// Transport makes connections to other registries in place of what keeps
	// to Egress; for tests.
	Transport http.RoundTripper
}

// Resolver resolves references. It is safe for concurrent use.
type Resolver struct {
	options   Options
	own       []string
	anyOf     []string // ports at which every address of this machine is ours
	transport http.RoundTripper
}

// New returns a resolver; it does no I/O.
func New(o Options) *Resolver {
	r := &Resolver{options: o, transport: o.Transport}
	if r.transport == nil {
		r.transport = o.Egress.transport()
	}
	for _, host := range o.Hosts {
		r.own = append(r.own, namesOf(strings.ToLower(host))...)
		if name, port, err := net.SplitHostPort(host); err == nil && (name == "" || net.ParseIP(name).IsUnspecified()) {
			r.anyOf = append(r.anyOf, port)
		}
	}
	return r
}

// namesOf returns the addresses that reach the same port of this host.
func namesOf(address string) []string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return []string{address}
	}
	ip := net.ParseIP(host)
	if host == "" || host == "localhost" || (ip != nil && (ip.IsLoopback() || ip.IsUnspecified())) {
		return []string{address, "localhost:" + port, "127.0.0.1:" + port, "[::1]:" + port}
	}
	return []string{address}
}

// isOwn reports whether a host, in lower case, is our own registry.
func (r *Resolver) isOwn(address string) bool {
	if slices.Contains(r.own, address) {
		return true
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || !slices.Contains(r.anyOf, port) {
		return false
	}
	if name, err := os.Hostname(); err == nil && strings.EqualFold(name, host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addresses, err := net.InterfaceAddrs()
	return err == nil && (ip.IsLoopback() || slices.ContainsFunc(addresses, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == ip
	}))
}

// Image is what a reference stands for.
type Image struct {
	Ref    string // as given
	Digest string // of the manifest of this platform, "sha256:..."

	// Pinned is a reference to this image for good: /REPO@DIGEST where it is in
	// our own registry, by whatever address that is reached later, else
	// HOST/REPO@DIGEST.
	Pinned string

	Config v1.ConfigFile
	Layers []ingest.Layer // bottom first
}

// Resolve finds the image that a tenant means by ref: HOST/REPO[:TAG|@DIGEST],
// or REPO[:TAG|@DIGEST] in our own registry, with a slash before it where REPO
// begins like a host. An index is resolved to the image of this host's
// platform.
//
// Errors are in Lambda's words: [thaw.Invalid] for a reference or an image that
// can't be used, [thaw.NotFound] for one that does not exist or belongs to
// another tenant, [thaw.Denied] where another registry refuses us,
// [thaw.Throttled] and [thaw.Unavailable] where it may work later.
func (r *Resolver) Resolve(ctx context.Context, tenant thaw.TenantID, ref string) (*Image, error) {
	parsed, err := parseReference(ref)
	if err != nil {
		return nil, err
	}
	if r.isOwn(strings.ToLower(parsed.host)) {
		parsed.host = ""
	}
	repo, err := r.open(ctx, tenant, parsed)
	if err != nil {
		return nil, explain(parsed, err)
	}
	image, err := r.read(ctx, repo, parsed)
	if err != nil {
		return nil, explain(parsed, err)
	}
	return image, nil
}

// repository is a repository of any registry, as its reader sees it.
type repository interface {
	// manifest returns a manifest of at most [registry.MaxManifestBytes],
	// checked against its digest.
	manifest(ctx context.Context, tagOrDigest string) (manifest, error)

	// blob opens a blob from its first byte, unverified.
	blob(ctx context.Context, d v1.Descriptor) (body, error)
}

// manifest is a manifest as it came.
type manifest struct {
	digest    v1.Hash
	mediaType string
	data      []byte
}

func (r *Resolver) open(ctx context.Context, tenant thaw.TenantID, ref reference) (repository, error) {
	if ref.host == "" {
		repo, err := r.options.Store.Reader(registry.Identity{Tenant: tenant}, ref.repo)
		if err != nil {
			return nil, err
		}
		return ownRepository{repo}, nil
	}
	return r.openRemote(ctx, tenant, ref)
}

func (r *Resolver) read(ctx context.Context, repo repository, ref reference) (*Image, error) {
	m, err := resolvePlatform(ctx, repo, ref.target())
	if err != nil {
		return nil, err
	}
	doc, err := parseImage(m)
	if err != nil {
		return nil, err
	}
	config, err := readConfig(ctx, repo, doc.Config)
	if err != nil {
		return nil, err
	}
	if err := checkImage(doc, config); err != nil {
		return nil, err
	}
	image := &Image{Ref: ref.text, Digest: m.digest.String(), Pinned: ref.host + "/" + ref.repo + "@" + m.digest.String(), Config: *config}
	for i, d := range doc.Layers {
		public, err := r.public(d.Digest)
		if err != nil {
			return nil, err
		}
		image.Layers = append(image.Layers, ingest.Layer{
			Digest:    d.Digest.String(),
			DiffID:    config.RootFS.DiffIDs[i].String(),
			MediaType: string(d.MediaType),
			Bytes:     d.Size,
			Public:    public,
			Kept:      ref.host == "",
			Open:      opener(repo, ref, d),
		})
	}
	return image, nil
}

// public reports whether a layer's content is everyone's, wherever this image
// has it from: its digest says that it is the same.
func (r *Resolver) public(h v1.Hash) (bool, error) {
	return r.options.Store.Published(h)
}
