// SPDX-License-Identifier: Apache-2.0

// Package ecr speaks the part of ECR's JSON API that pipelines call, over a
// registry's store: logging in, repositories, images, and pushing layers
// without the distribution protocol.
//
// It knows ECR's names and errors; what they mean is the store's business. A
// client that was written for ECR needs another endpoint and nothing else. Who
// calls is found out by a function that the wiring gives; the handler itself
// trusts nobody.
//
// A repository whose name begins with "public/" is everyone's to read, and
// belongs to the accounts that may publish, as in the registry.
package ecr

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/internal/fair"
	"thaw.dev/thaw/internal/request"
)

const (
	targetPrefix = "AmazonEC2ContainerRegistry_V20150921."

	// partBytes is the size of part that clients are asked to upload, and the
	// largest that ECR's quota allows.
	partBytes = 10 << 20

	// maxBodyBytes fits such a part in base64 with its envelope, and a
	// manifest of 4 MiB as a JSON string.
	maxBodyBytes = 14 << 20

	// largeBodyBytes is where a request begins to count as large, and
	// maxLarge how many of those are held in memory at once.
	largeBodyBytes = 1 << 20
	maxLarge       = 8
)

// Config says what the handler works with.
type Config struct {
	Store *registry.Store

	// Tokens makes login passwords and download addresses; the registry's
	// handler checks them with the same secret.
	Tokens *registry.TokenIssuer

	// Identify returns who signed a request, with which access key. It may replace the body by one
	// that is checked as it is read; nothing is done before its end was
	// reached. Errors of kind [thaw.Denied] go out with the code that
	// DeniedCode gives them.
	Identify func(*http.Request) (tenant thaw.TenantID, accessKey string, err error)

	// DeniedCode returns AWS's name for a [thaw.Denied] error of Identify, as
	// "InvalidSignatureException", and a message. It may be nil.
	DeniedCode func(error) (code, message string)

	// Endpoint is the URL of this server for the client of a request.
	Endpoint func(*http.Request) *url.URL

	// Region is the one in the names of resources.
	Region string

	Log *slog.Logger
}

// IsRequest reports whether r is a request of ECR's API: all of them are a
// POST to "/" that names its operation in a header.
func IsRequest(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
}

// Handler is the API, safe for concurrent use.
type Handler struct {
	Config
	operations map[string]operation
	large      *fair.Pool // of large requests in memory
}

// New returns the API.
func New(c Config) *Handler {
	return &Handler{Config: c, operations: operations(),
		large: fair.New(fair.Options{Name: "ecr-bodies", Size: maxLarge, KeepFree: true})}
}

// Pools returns what tenants share here.
func (h *Handler) Pools() []*fair.Pool { return []*fair.Pool{h.large} }

// call is one request.
type call struct {
	*Handler
	r      *http.Request
	tenant thaw.TenantID
	key    string // the access key of the signature
}

// operation does one request and returns its answer, to become JSON.
type operation func(c *call, body []byte) (any, error)

// typed makes an operation of a function with typed input.
func typed[In any](do func(*call, In) (any, error)) operation {
	return func(c *call, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fault("SerializationException", "the request is not the JSON of this operation: %v", err)
		}
		return do(c, in)
	}
}

func operations() map[string]operation {
	return map[string]operation{
		"GetAuthorizationToken":         typed((*call).getAuthorizationToken),
		"CreateRepository":              typed((*call).createRepository),
		"DescribeRepositories":          typed((*call).describeRepositories),
		"DeleteRepository":              typed((*call).deleteRepository),
		"PutImageTagMutability":         typed((*call).putImageTagMutability),
		"PutImageScanningConfiguration": typed((*call).putImageScanningConfiguration),
		"TagResource":                   typed((*call).tagResource),
		"UntagResource":                 typed((*call).untagResource),
		"ListTagsForResource":           typed((*call).listTagsForResource),
		"DescribeImages":                typed((*call).describeImages),
		"ListImages":                    typed((*call).listImages),
		"BatchGetImage":                 typed((*call).batchGetImage),
		"BatchDeleteImage":              typed((*call).batchDeleteImage),
		"PutImage":                      typed((*call).putImage),
		"BatchCheckLayerAvailability":   typed((*call).batchCheckLayerAvailability),
		"InitiateLayerUpload":           typed((*call).initiateLayerUpload),
		"UploadLayerPart":               typed((*call).uploadLayerPart),
		"CompleteLayerUpload":           typed((*call).completeLayerUpload),
		"GetDownloadUrlForLayer":        typed((*call).getDownloadURLForLayer),
	}
}

// ServeHTTP does the operation that the request's target names.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", request.Of(r.Context()).ID)
	out, err := h.serve(r)
	status := http.StatusOK
	if err != nil {
		status, out = h.explain(r, err)
	}
	body, err := json.Marshal(out)
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone away is not our concern
}

func (h *Handler) serve(r *http.Request) (any, error) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	do := h.operations[name]
	if !ok || do == nil || r.Method != http.MethodPost {
		return nil, fault("UnknownOperationException", "%s is not an operation of this registry", clip(name))
	}
	tenant, key, err := h.Identify(r)
	if err != nil {
		return nil, err
	}
	info := request.Of(r.Context())
	info.Operation = name
	info.Authenticated(string(tenant))
	if r.ContentLength < 0 || r.ContentLength > largeBodyBytes {
		release, err := h.large.Acquire(r.Context(), string(tenant), 1)
		if err != nil {
			return nil, thaw.Wrap("ecr", err)
		}
		defer release()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	if err != nil {
		return nil, thaw.Wrap("ecr: read the request", err)
	}
	if len(body) > maxBodyBytes {
		return nil, fault("InvalidParameterException", "the request has more than %d bytes", maxBodyBytes)
	}
	return do(&call{Handler: h, r: r, tenant: tenant, key: key}, body)
}

// repositoryRef is what nearly every operation names.
type repositoryRef struct {
	RegistryID     string `json:"registryId,omitempty"`
	RepositoryName string `json:"repositoryName"`
}

// ref is the same in an answer.
func (c *call) ref(name string) repositoryRef {
	return repositoryRef{RegistryID: string(c.tenant), RepositoryName: name}
}

// writer returns the repository to change. Another account's registry is one
// in which nothing exists.
func (c *call) writer(ref repositoryRef) (*registry.Writer, error) {
	if err := c.checkRegistry(ref); err != nil {
		return nil, err
	}
	return c.Store.Writer(registry.Identity{Tenant: c.tenant}, ref.RepositoryName)
}

func (c *call) reader(ref repositoryRef) (*registry.Repo, error) {
	if err := c.checkRegistry(ref); err != nil {
		return nil, err
	}
	return c.Store.Reader(registry.Identity{Tenant: c.tenant}, ref.RepositoryName)
}

func (c *call) checkRegistry(ref repositoryRef) error {
	if ref.RegistryID != "" && ref.RegistryID != string(c.tenant) {
		return fault("RepositoryNotFoundException", "The repository with name '%s' does not exist in the registry with id '%s'",
			clip(ref.RepositoryName), clip(ref.RegistryID))
	}
	return nil
}

func (c *call) arn(name string) string {
	return fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", c.Region, c.tenant, name)
}

// clip keeps a caller's text in a message short.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
