// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	thaw "thaw.dev/thaw"
	reqinfo "thaw.dev/thaw/internal/request"
)

const (
	// DownloadParam is the query parameter that carries a token of
	// [BlobScope]: a download address needs no other credentials.
	DownloadParam = "thaw-token"

	// maxPage bounds the entries of one page of a listing, as ECR does.
	maxPage = 1000
)

// handler speaks the distribution protocol.
type handler struct {
	store  *Store
	auth   Auth
	tokens *TokenIssuer
}

// NewHandler returns the registry's HTTP interface: everything below "/v2/".
// The handler is safe for concurrent use. tokens checks download addresses; it
// is the issuer that the ECR API makes them with.
func NewHandler(store *Store, auth Auth, tokens *TokenIssuer) http.Handler {
	return &handler{store: store, auth: auth, tokens: tokens}
}

// request is one request on its way through the handler.
type request struct {
	*handler
	w    http.ResponseWriter
	r    *http.Request
	info *reqinfo.Info
	id   Identity
	name string // of the repository
	ref  string // the path's last element: a digest, tag or upload
}

// ServeHTTP routes by the end of the path, since a repository's name may have
// any number of elements.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	q := &request{handler: h, w: w, r: r, info: reqinfo.Of(r.Context())}
	w.Header()["X-Amzn-Requestid"] = []string{q.info.ID}
	serve, err := q.route()
	if err == nil {
		err = q.authenticate()
		q.info.Authenticated(string(q.id.Tenant))
	}
	if err == nil {
		err = serve(q)
	}
	if err != nil {
		q.fail(err)
	}
}

// authenticate sets who asks. A download token stands for a login, but only for
// the blob that it names.
func (q *request) authenticate() error {
	token := q.r.URL.Query().Get(DownloadParam)
	if token == "" {
		id, err := q.auth(q.r)
		q.id = id
		return err
	}
	claims, err := q.tokens.Verify(q.r.Context(), token, time.Now())
	if err != nil {
		return err
	}
	h, err := ParseDigest(q.ref)
	isBlob := strings.HasSuffix(q.r.URL.Path, "/blobs/"+q.ref)
	if err != nil || !isBlob || claims.Scope != BlobScope(q.name, h) || (q.r.Method != http.MethodGet && q.r.Method != http.MethodHead) {
		return refuse(CodeUnauthorized, "the token is for something else")
	}
	q.id = Identity{Tenant: claims.Tenant}
	return nil
}

// methods are the functions that serve a path, by HTTP method.
type methods map[string]func(*request) error

func (q *request) route() (func(*request) error, error) {
	rest, ok := strings.CutPrefix(q.r.URL.Path, "/v2")
	if !ok || (rest != "" && rest[0] != '/') {
		return nil, refuse(CodeNameUnknown, "no such path")
	}
	allowed := q.methodsOf(strings.TrimPrefix(rest, "/"))
	if allowed == nil {
		return nil, refuse(CodeNameUnknown, "no such path")
	}
	serve := allowed[q.r.Method]
	if serve == nil {
		for method := range allowed {
			q.w.Header().Add("Allow", method)
		}
		return nil, refuse(CodeUnsupported, "%s is not possible here", clip(q.r.Method))
	}
	return serve, nil
}

func (q *request) methodsOf(path string) methods {
	switch path {
	case "":
		return methods{"GET": (*request).ping, "HEAD": (*request).ping}
	case "_catalog":
		return methods{"GET": (*request).catalog}
	}
	elements := strings.Split(path, "/")
	// at returns the element that many places before the last.
	at := func(i int) string {
		if i = len(elements) - 1 - i; i > 0 {
			return elements[i]
		}
		return ""
	}
	q.ref = elements[len(elements)-1]
	nameOf := func(tail int) { q.name = strings.Join(elements[:len(elements)-tail], "/") }
	switch {
	case at(2) == "blobs" && at(1) == "uploads" && q.ref == "", at(1) == "blobs" && q.ref == "uploads":
		q.name = path[:strings.LastIndex(path, "/blobs/uploads")]
		return methods{"POST": (*request).startUpload}
	case at(2) == "blobs" && at(1) == "uploads":
		nameOf(3)
		return methods{"GET": (*request).uploadStatus, "PATCH": (*request).continueUpload, "PUT": (*request).finishUpload, "DELETE": (*request).cancelUpload}
	case at(1) == "blobs":
		nameOf(2)
		return methods{"GET": (*request).getBlob, "HEAD": (*request).getBlob, "DELETE": (*request).deleteBlob}
	case at(1) == "manifests":
		nameOf(2)
		return methods{"GET": (*request).getManifest, "HEAD": (*request).getManifest, "PUT": (*request).putManifest, "DELETE": (*request).deleteManifest}
	case at(1) == "referrers":
		nameOf(2)
		return methods{"GET": (*request).referrers}
	case at(1) == "tags" && q.ref == "list":
		nameOf(2)
		return methods{"GET": (*request).tags}
	}
	return nil
}

// ping answers whether the credentials are good. Without any it asks for them,
// although public repositories can be read so: tools decide here, once,
// whether they will send theirs.
func (q *request) ping() error {
	if q.id.Anonymous() {
		return refuse(CodeUnauthorized, "log in")
	}
	return q.answerJSON(struct{}{})
}

// catalog lists the caller's repositories (docker's extension of the protocol).
func (q *request) catalog() error {
	if q.id.Anonymous() {
		return refuse(CodeUnauthorized, "log in to list your repositories")
	}
	page, err := q.page()
	if err != nil {
		return err
	}
	all, err := q.store.Repositories(q.r.Context(), q.id)
	if err != nil {
		return err
	}
	names := []string{}
	for _, repository := range all {
		if repository.Name > page.after {
			names = append(names, repository.Name)
		}
	}
	if len(names) > page.limit {
		names = names[:page.limit]
		q.linkNext(names, page.limit)
	}
	return q.answerJSON(struct {
		Repositories []string `json:"repositories"`
	}{names})
}

func (q *request) tags() error {
	repo, err := q.store.Reader(q.id, q.name)
	if err != nil {
		return err
	}
	page, err := q.page()
	if err != nil {
		return err
	}
	tags, more, err := repo.Tags(page.after, page.limit)
	if err != nil {
		return err
	}
	if more {
		q.linkNext(tags, page.limit)
	}
	if tags == nil {
		tags = []string{}
	}
	return q.answerJSON(struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{q.name, tags})
}

type page struct {
	after string
	limit int
}

// page reads the parameters n and last.
func (q *request) page() (page, error) {
	query := q.r.URL.Query()
	p := page{after: query.Get("last"), limit: maxPage}
	if s := query.Get("n"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return p, refuse(CodeUnsupported, "n=%s is not a number of entries", clip(s))
		}
		p.limit = min(n, maxPage)
	}
	return p, nil
}

// linkNext tells where the page after this one is.
func (q *request) linkNext(entries []string, limit int) {
	if len(entries) == 0 {
		return // n=0 asks for nothing, so nothing follows
	}
	query := url.Values{"n": {strconv.Itoa(limit)}, "last": {entries[len(entries)-1]}}
	q.w.Header().Set("Link", "<"+q.r.URL.EscapedPath()+"?"+query.Encode()+`>; rel="next"`)
}

func (q *request) answerJSON(v any) error {
	return q.answerJSONAs("application/json", v)
}

func (q *request) answerJSONAs(contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return thaw.Wrap("registry: answer", err)
	}
	q.w.Header().Set("Content-Type", contentType)
	q.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	q.write(body)
	return nil
}

// write sends the end of an answer. A client that has gone away is not our
// concern.
func (q *request) write(body []byte) {
	if q.r.Method != http.MethodHead {
		_, _ = q.w.Write(body)
	}
}

// fail answers with an error. Only refusals are told to the client; what failed
// on our side goes to the log.
func (q *request) fail(err error) {
	code, kind := CodeOf(err), thaw.KindOf(err)
	status := statusOf(code, kind)
	switch code {
	case CodeTagImmutable:
		code = CodeTagInvalid
	case CodeQuota:
		code = CodeDenied
	default:
	}
	message := "the registry failed; its log has the reason under request " + q.info.ID
	if status == http.StatusServiceUnavailable {
		message = "the registry is short of something, try again later; its log has the reason under request " + q.info.ID
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		message = refusal.Message
	} else if status < http.StatusInternalServerError {
		message = thaw.Tell(err)
	}
	if status >= http.StatusInternalServerError && q.r.Context().Err() == nil {
		q.hostFault(err)
	}
	if status == http.StatusUnauthorized {
		q.w.Header().Set("WWW-Authenticate", `Basic realm="thaw"`)
	}
	type detail struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(map[string][]detail{"errors": {{code, message}}})
	if err != nil {
		body = nil
	}
	q.w.Header().Set("Content-Type", "application/json")
	q.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	q.w.WriteHeader(status)
	q.write(body)
}
