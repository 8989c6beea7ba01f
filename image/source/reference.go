// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

const op = "source"

// maxReferenceBytes is far above any that is in use.
const maxReferenceBytes = 1024

// hostPattern is a host name, or an address of either family, and a port.
var hostPattern = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$`)

// reference is an image reference taken apart. Whether repository and tag are
// well-formed is the registry's to say.
type reference struct {
	text   string
	host   string // "" is our own registry
	repo   string
	tag    string
	digest string // counts more than tag
}

// target is what to ask the registry for.
func (r reference) target() string {
	if r.digest != "" {
		return r.digest
	}
	return r.tag
}

// parseReference splits at the rules of docker: what precedes the first slash
// is a host if it has a dot or a colon, or is "localhost". Beyond them a slash at
// the front says that there is no host.
func parseReference(text string) (reference, error) {
	ref := reference{text: text, tag: "latest"}
	rest := text
	if text == "" || len(text) > maxReferenceBytes || strings.ContainsAny(text, " \t\r\n\\?#%") || strings.Contains(text, "://") {
		return ref, invalidReference(text, "write HOST/REPOSITORY:TAG without a scheme")
	}
	rest, digest, hasDigest := strings.Cut(rest, "@")
	if hasDigest {
		if _, err := v1.NewHash(digest); err != nil {
			return ref, invalidReference(text, "the digest is malformed")
		}
		ref.digest = digest
	}
	if first, after, ok := strings.Cut(rest, "/"); ok && (first == "" || strings.ContainsAny(first, ".:") || first == "localhost") {
		if first != "" && !hostPattern.MatchString(first) {
			return ref, invalidReference(text, "the host is malformed")
		}
		ref.host, rest = first, after
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, ref.tag = rest[:i], rest[i+1:]
		if ref.tag == "" {
			return ref, invalidReference(text, "the tag is empty")
		}
	}
	if rest == "" {
		return ref, invalidReference(text, "the repository is missing")
	}
	ref.repo = rest
	return ref, nil
}

// dockerHub is what docker.io is also called.
var dockerHub = []string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}

// RegistryHost returns the one form of a registry's name, HOST[:PORT] in lower
// case, under which logins are kept: without a scheme or a path, and docker.io
// for all of its names. The error is [thaw.Invalid].
func RegistryHost(text string) (string, error) {
	host := strings.ToLower(text)
	host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
	for _, path := range []string{"/", "/v1", "/v2"} { // as docker's own configuration writes them
		host = strings.TrimSuffix(host, path)
	}
	if !hostPattern.MatchString(host) {
		return "", thaw.Errorf("registry "+text, thaw.Invalid, "write HOST or HOST:PORT")
	}
	if slices.Contains(dockerHub, host) {
		host = "docker.io"
	}
	return host, nil
}

func invalidReference(text, why string) error {
	const most = 200
	if len(text) > most {
		text = text[:most] + "..."
	}
	return thaw.Errorf(op, thaw.Invalid, "Source image %s is not valid. Provide a valid source image: %s", text, why)
}

// unusable says that the image exists and can't be run.
type unusable struct {
	why       string
	mediaType bool // is the reason, for which Lambda has words of its own
}

func (u *unusable) Error() string { return u.why }

func unusablef(format string, args ...any) error {
	return &unusable{why: fmt.Sprintf(format, args...)}
}

func unsupportedf(format string, args ...any) error {
	return &unusable{why: fmt.Sprintf(format, args...), mediaType: true}
}

// explain puts an error into the words of Lambda, with what is known behind
// them.
func explain(r reference, err error) error {
	ref := r.text
	if u, ok := errors.AsType[*unusable](err); ok {
		if u.mediaType {
			return thaw.Errorf(op, thaw.Invalid, "The image manifest, config or layer media type for the source image %s is not supported: %w", ref, u)
		}
		return thaw.Errorf(op, thaw.Invalid, "Source image %s is not valid. Provide a valid source image: %w", ref, u)
	}
	if host, ok := errors.AsType[refusedHost](err); ok {
		return thaw.Errorf(op, thaw.Denied, "%w", host) // all the rest is ours: which ways were tried
	}
	switch kind := thaw.KindOf(err); {
	case registry.CodeOf(err) == registry.CodeNameInvalid, registry.CodeOf(err) == registry.CodeDigestInvalid:
		return invalidReference(ref, err.Error())
	case kind == thaw.NotFound:
		return thaw.Errorf(op, kind, "Source image %s does not exist. Provide a valid source image: %w", ref, err)
	case kind == thaw.Denied && isRefusal(err):
		return thaw.Errorf(op, kind, "there is no permission to access the source image %s: log in with \"thaw registry login %s\" (%w)", ref, r.host, err)
	case kind == thaw.Denied:
		return thaw.Errorf(op, kind, "there is no permission to access the source image %s: %w", ref, err)
	case kind == thaw.Invalid:
		return thaw.Errorf(op, kind, "Source image %s is not valid. Provide a valid source image: %w", ref, err)
	default:
		return thaw.Errorf(op, kind, "the source image %s can't be read: %w", ref, err)
	}
}

// isRefusal reports whether another registry answered that it does not know
// the caller, or does not let it.
func isRefusal(err error) bool {
	answer, ok := errors.AsType[*transport.Error](err)
	return ok && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden)
}
