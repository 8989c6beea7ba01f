// SPDX-License-Identifier: Apache-2.0

// Package registry is an OCI distribution registry over a directory: a [Store]
// that keeps repositories, and an HTTP handler ([NewHandler]) that speaks the
// distribution protocol, version 1.1, over it. It knows blobs, manifests and
// tags, and who may see them; it knows nothing of chunks, keys or file systems.
//
// # Promises
//
//   - What was acknowledged is durable. A blob, manifest or tag is written
//     beside its place, synced, renamed, and its folder synced, before the
//     answer goes out; so it survives the death of the process and of the
//     machine. Nothing half-written is ever visible.
//   - A blob is visible in a repository only where it was pushed or mounted.
//     An owner's bytes are kept once however many of its repositories hold
//     them. Owners share none, a push always receives and checks all of them,
//     and a mount finds only what the caller may read: so no step of a request
//     depends on what others store, and nobody learns it.
//   - A request frees no bytes. It takes names away; what nothing names any
//     more is freed in the background.
//   - Bytes are hashed while they arrive and go straight to disk. Memory is
//     bounded by a buffer for each request and 4 MiB for each manifest.
//
// # Names and owners
//
// A repository belongs to an owner: a tenant, or "public". A tenant's names are
// its own, so "app" of two tenants are two repositories and neither can tell
// whether the other's exists. Names that begin with "public/" are global:
// everyone reads them, without credentials too, and the tenants listed in
// [Options.Publishers] write them.
//
// # On disk
//
//	lock                               held while a process has the store open
//	blobs/OWNER/ALGORITHM-HEX          the bytes, once for each owner
//	blobs/ALGORITHM/XX/HEX             likewise of all owners, from earlier versions
//	repos/OWNER/NAME/                  "/" of the name is written "!"
//	    repo.json                      settings
//	    blobs/ALGORITHM-HEX            hard link to the bytes
//	    manifests/ALGORITHM-HEX        a line of JSON about it, then its bytes
//	    tags/TAG                       the digest it stands for
//	    referrers/SUBJECT/DIGEST       the descriptor of a manifest with that subject
//	uploads/OWNER.NAMEHASH.UUID        bytes of an upload that is under way
//	tmp/                               being written or removed; emptied at start
//
// The links count themselves: bytes whose only link is the one in blobs/ are in
// no repository. Bytes that were mounted from public/ are in the folder of
// public. A copy of the folder that breaks hard links is still right, only
// larger.
//
// # Locks
//
// In this order: a repository's lock (held shared by whoever adds a blob, alone
// by whoever changes manifests, tags, settings or removes), then the lock of an
// owner's blob. An upload's turn comes before both.
package registry

import (
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

const (
	// MaxManifestBytes bounds a manifest: the size that the distribution
	// specification asks every registry to take.
	MaxManifestBytes = 4 << 20

	// DefaultMaxBlobBytes is ECR's limit for a layer, 52,000 MiB.
	DefaultMaxBlobBytes = 52_000 << 20

	// maxNameBytes bounds a repository's name, so that it fits a file name.
	maxNameBytes = 255

	// publicPrefix begins the names that everyone shares.
	publicPrefix = "public/"

	// ownerPublic owns them. It can't be a tenant: those are 12 digits.
	ownerPublic = "public"
)

// Both patterns are those of the distribution specification.
var (
	namePattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Identity is who asks. The zero Identity is anonymous.
type Identity struct {
	Tenant thaw.TenantID
}

// Anonymous reports whether nobody has logged in.
func (id Identity) Anonymous() bool { return id.Tenant == "" }

// IsPublicName reports whether a repository of that name is shared by all.
func IsPublicName(name string) bool { return strings.HasPrefix(name, publicPrefix) }

// Repo is a repository as its readers see it. It may not exist: then its
// methods return NAME_UNKNOWN. It holds nothing open and is safe for
// concurrent use.
type Repo struct {
	store *Store
	owner string
	name  string
	dir   string
}

// Writer is a repository in the hands of someone who may write it. Safe for
// concurrent use.
type Writer struct {
	Repo
}

// Name returns the repository's full name, "public/" included.
func (r *Repo) Name() string { return r.name }

// Public reports whether everyone may read the repository.
func (r *Repo) Public() bool { return r.owner == ownerPublic }

// Reader returns the repository that id means by name. It refuses a malformed
// name (NAME_INVALID) and an anonymous caller outside of public/
// (UNAUTHORIZED); whether the repository exists is found out by its methods.
func (s *Store) Reader(id Identity, name string) (*Repo, error) {
	if len(name) > maxNameBytes || !namePattern.MatchString(name) {
		return nil, refuse(CodeNameInvalid, "%q is not a repository name", clip(name))
	}
	if IsPublicName(name) {
		return s.repo(ownerPublic, name), nil
	}
	if id.Anonymous() {
		return nil, refuse(CodeUnauthorized, "log in to use %q; without credentials only %s... is readable", name, publicPrefix)
	}
	if _, err := thaw.ParseTenantID(string(id.Tenant)); err != nil {
		return nil, thaw.Wrap("registry", err)
	}
	return s.repo(string(id.Tenant), name), nil
}

// Writer is [Store.Reader] for a caller who wants to change the repository;
// besides it refuses those who may not publish (DENIED).
func (s *Store) Writer(id Identity, name string) (*Writer, error) {
	r, err := s.Reader(id, name)
	if err != nil {
		return nil, err
	}
	if r.Public() {
		if id.Anonymous() {
			return nil, refuse(CodeUnauthorized, "log in to push to %q", name)
		}
		if !s.publishers[id.Tenant] {
			return nil, refuse(CodeDenied, "account %s may not push to public repositories", id.Tenant)
		}
	}
	return &Writer{*r}, nil
}

// ParseDigest accepts sha256 and sha512 digests with lower-case digits; its
// error is DIGEST_INVALID.
func ParseDigest(s string) (v1.Hash, error) {
	h, err := v1.NewHash(s)
	if err != nil {
		return v1.Hash{}, refuse(CodeDigestInvalid, "%q is not a sha256 or sha512 digest", clip(s))
	}
	return h, nil
}

// clip keeps a caller's text in an error message short.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
