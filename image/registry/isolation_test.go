// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"thaw.dev/thaw/image/registry"
)

const unknownDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// TestStrangersSeeNothing: whatever one tenant asks about another's repository,
// the answer is the one that a name nobody uses has, to the byte.
func TestStrangersSeeNothing(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	secret := "alice's layer"
	manifest := s.pushImage(t, alice, "team/app", "v1", secret)
	for _, try := range []call{
		{method: "GET", path: "/manifests/v1", status: 404, code: registry.CodeNameUnknown},
		{method: "HEAD", path: "/manifests/v1", status: 404},
		{method: "GET", path: "/manifests/" + digest(manifest), status: 404, code: registry.CodeNameUnknown},
		{method: "GET", path: "/blobs/" + digest([]byte(secret)), status: 404, code: registry.CodeNameUnknown},
		{method: "HEAD", path: "/blobs/" + digest([]byte(secret)), status: 404},
		{method: "GET", path: "/tags/list", status: 404, code: registry.CodeNameUnknown},
		{method: "GET", path: "/referrers/" + digest(manifest), status: 200},
		{method: "DELETE", path: "/manifests/v1", status: 404, code: registry.CodeNameUnknown},
		{method: "DELETE", path: "/blobs/" + digest([]byte(secret)), status: 404, code: registry.CodeNameUnknown},
		{method: "GET", path: "/blobs/uploads/11111111-1111-4111-8111-111111111111", status: 404, code: registry.CodeBlobUploadUnknown},
	} {
		var answers []string
		for _, repo := range []string{"team/app", "team/xyz"} { // another's, and nobody's
			c := try
			c.as, c.path = bob, "/v2/"+repo+try.path
			resp, body := s.do(t, c)
			resp.Header.Del("Date")
			resp.Header.Del("X-Amzn-Requestid") // of each answer its own
			answers = append(answers, strings.ReplaceAll(fmt.Sprint(resp.Header, string(body)), repo, "NAME"))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s %s: of a name in use %s, of another %s", try.method, try.path, answers[0], answers[1])
		}
	}
	// Nor is anonymous told more than to log in.
	s.do(t, call{method: "GET", path: "/v2/team/app/manifests/v1", status: 401, code: registry.CodeUnauthorized})
	s.do(t, call{method: "GET", path: "/v2/team/xyz/manifests/v1", status: 401, code: registry.CodeUnauthorized})
}

// TestNoExistenceOracle: whether others store a blob is found out neither by a
// mount nor by a push.
func TestNoExistenceOracle(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	secret := []byte("alice's layer")
	s.pushImage(t, alice, "app", "v1", string(secret))
	d := digest(secret)
	for _, query := range []string{"mount=" + d + "&from=app", "mount=" + d, "mount=" + d + "&from=other", "mount=" + unknownDigest, "mount=" + d + "&from=public/x"} {
		resp, _ := s.do(t, call{method: "POST", path: "/v2/mine/blobs/uploads/?" + query, as: bob, status: http.StatusAccepted})
		if resp.Header.Get("Location") == "" {
			t.Errorf("%s: no upload offered", query)
		}
		// A push that does not bring the bytes is refused, though they are here.
		s.do(t, call{method: "PUT", path: resp.Header.Get("Location") + "?digest=" + d, as: bob, status: 400, code: registry.CodeDigestInvalid})
	}
	s.do(t, call{method: "POST", path: "/v2/mine/blobs/uploads/?digest=" + d, as: bob, body: secret[:5], status: 400, code: registry.CodeDigestInvalid})
	s.do(t, call{method: "HEAD", path: "/v2/mine/blobs/" + d, as: bob, status: 404})
	// A manifest can't name it either.
	s.pushBlob(t, bob, "mine", []byte(`{"os":"linux"}`))
	s.do(t, call{method: "PUT", path: "/v2/mine/manifests/v1", as: bob, body: imageOf([]byte(`{"os":"linux"}`), secret), status: 400, code: registry.CodeManifestBlobUnknown})
}

// TestLocksAreTheOwners: a tenant that keeps all of its repositories busy keeps no
// other's from being pushed to.
func TestLocksAreTheOwners(t *testing.T) {
	const repos = 400
	s := startServer(t, options(t.TempDir()))
	writers := make([]*registry.Writer, repos)
	for i := range repos {
		writers[i] = writer(t, s.store, bob, fmt.Sprintf("r%d", i))
		if _, err := writers[i].Create(registry.Settings{}); err != nil {
			t.Fatal(err)
		}
	}
	release := make(chan struct{})
	var begun atomic.Int64
	var busy sync.WaitGroup
	for _, w := range writers {
		busy.Go(func() {
			_, err := w.Change(func(*registry.Settings) error {
				begun.Add(1)
				<-release
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for begun.Load() < 56 { // nearly all locks that bob has; the others wait for these
		time.Sleep(time.Millisecond)
	}
	for i := range 5 {
		s.pushImage(t, alice, fmt.Sprintf("app%d", i), "v1", "layer")
	}
	close(release)
	busy.Wait()
}

// TestUploadsBelongToTheirRepository: an upload's address is of no use to
// others, nor in another repository.
func TestUploadsBelongToTheirRepository(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	resp, _ := s.do(t, call{method: "POST", path: "/v2/app/blobs/uploads/", as: alice, status: 202})
	location := resp.Header.Get("Location")
	for _, method := range []string{"GET", "PATCH", "DELETE", "PUT"} {
		s.do(t, call{method: method, path: location + "?digest=" + digest(nil), as: bob, status: 404, code: registry.CodeBlobUploadUnknown})
		s.do(t, call{method: method, path: strings.Replace(location, "/app/", "/app2/", 1) + "?digest=" + digest(nil), as: alice, status: 404, code: registry.CodeBlobUploadUnknown})
	}
	s.do(t, call{method: "PUT", path: location + "?digest=" + digest(nil), as: alice, status: 201})
}

func TestPublicRepositories(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	manifest := s.pushImage(t, publisher, "public/base", "v1", "everyone's layer")
	for _, as := range []registry.Identity{{}, {Tenant: alice}, {Tenant: publisher}} {
		_, body := s.do(t, call{method: "GET", path: "/v2/public/base/manifests/v1", as: as.Tenant, status: 200})
		if string(body) != string(manifest) {
			t.Errorf("as %q: %s", as.Tenant, body)
		}
		resp, _ := s.do(t, call{method: "GET", path: "/v2/public/base/blobs/" + digest([]byte("everyone's layer")), as: as.Tenant, status: 200})
		if !strings.Contains(resp.Header.Get("Cache-Control"), "public") {
			t.Error("a public blob may not be cached")
		}
		s.do(t, call{method: "GET", path: "/v2/public/base/tags/list", as: as.Tenant, status: 200})
	}
	// Whoever sends empty credentials is anonymous, not wrong.
	s.do(t, call{method: "GET", path: "/v2/public/base/manifests/v1", header: map[string]string{"Authorization": "Basic Og=="}, status: 200})
	for _, method := range []string{"POST /blobs/uploads/", "PUT /manifests/v2", "DELETE /manifests/v1", "DELETE /blobs/" + digest([]byte("everyone's layer"))} {
		verb, path, _ := strings.Cut(method, " ")
		s.do(t, call{method: verb, path: "/v2/public/base" + path, as: alice, status: 403, code: registry.CodeDenied})
		resp, _ := s.do(t, call{method: verb, path: "/v2/public/base" + path, status: 401, code: registry.CodeUnauthorized})
		if resp.Header.Get("WWW-Authenticate") != `Basic realm="thaw"` {
			t.Errorf("challenge %q", resp.Header.Get("WWW-Authenticate"))
		}
	}
	// What is public may be mounted by anyone.
	for repo, from := range map[string]string{"named": "&from=public/base", "found": ""} {
		d := digest([]byte("everyone's layer"))
		s.do(t, call{method: "POST", path: "/v2/" + repo + "/blobs/uploads/?mount=" + d + from, as: alice, status: 201})
		s.do(t, call{method: "GET", path: "/v2/" + repo + "/blobs/" + d, as: alice, status: 200})
	}
	h := mustHash(t, digest([]byte("everyone's layer")))
	if public, err := s.store.Published(h); err != nil || !public {
		t.Errorf("Published: %t, %v", public, err)
	}
	s.pushBlob(t, alice, "mine", []byte("private"))
	if public, err := s.store.Published(mustHash(t, digest([]byte("private")))); err != nil || public {
		t.Errorf("a private blob is called published: %v", err)
	}
}

func mustHash(t testing.TB, s string) v1.Hash {
	t.Helper()
	h, err := v1.NewHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestLogins: which credentials are good.
func TestLogins(t *testing.T) {
	s := startServer(t, options(t.TempDir()))
	s.pushImage(t, alice, "app", "v1", "x")
	login := func(c registry.Claims) string {
		token, err := s.tokens.Issue(c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	soon := time.Now().Add(time.Hour).Unix()
	stranger, err := registry.NewTokenIssuer([]byte(strings.Repeat("x", 32)), currentKey)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := stranger.Issue(registry.Claims{Tenant: alice, Key: "key-" + string(alice), Expires: soon})
	if err != nil {
		t.Fatal(err)
	}
	good := login(registry.Claims{Tenant: alice, Key: "key-" + string(alice), Expires: soon})
	for part := range strings.SplitSeq(good, ".") {
		if text, _ := base64.RawURLEncoding.DecodeString(part); strings.Contains(part+string(text), "key-"+string(alice)) {
			t.Errorf("a token names the access key that asked for it: %s", text)
		}
	}
	for _, try := range []struct {
		why, user, password string
		status              int
	}{
		{"token", "AWS", good, 200},
		{"key", "key-" + string(alice), secretOf(alice), 200},
		{"expired", "AWS", login(registry.Claims{Tenant: alice, Key: "key-" + string(alice), Expires: time.Now().Unix()}), 401},
		{"its key was rotated", "AWS", login(registry.Claims{Tenant: alice, Key: "key-before", Expires: soon}), 401},
		{"another tenant's key", "AWS", login(registry.Claims{Tenant: alice, Key: "key-" + string(bob), Expires: soon}), 401},
		{"without a key", "AWS", login(registry.Claims{Tenant: alice, Expires: soon}), 401},
		{"for a blob", "AWS", login(registry.Claims{Tenant: alice, Key: "key-" + string(alice), Expires: soon, Scope: "blob app@" + unknownDigest}), 401},
		{"forged", "AWS", forged, 401},
		{"changed", "AWS", good[:len(good)-1] + map[bool]string{true: "A", false: "E"}[good[len(good)-1] == 'E'], 401},
		{"cut", "AWS", good[:len(good)/2], 401},
		{"empty token", "AWS", "", 401},
		{"wrong secret", "key-" + string(alice), secretOf(bob), 401},
		{"no secret", "key-" + string(alice), "", 401},
		{"no such key", "key-0", "x", 401},
		{"no such key, no secret", "key-0", "", 401},
		{"token with another user", "aws", good, 401},
		{"only a secret", "", secretOf(alice), 401},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(try.user, try.password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != try.status {
			t.Errorf("%s: status %d, want %d", try.why, resp.StatusCode, try.status)
		}
	}
	s.do(t, call{method: "GET", path: "/v2/", header: map[string]string{"Authorization": "Bearer " + good}, status: 401, code: registry.CodeUnauthorized})
	s.do(t, call{method: "GET", path: "/v2/", status: 401, code: registry.CodeUnauthorized})

	// A download token opens its blob and nothing else.
	d := digest([]byte("x"))
	token := login(registry.Claims{Tenant: alice, Key: "key-" + string(alice), Scope: registry.BlobScope("app", mustHash(t, d)), Expires: soon})
	query := "?" + registry.DownloadParam + "="
	s.do(t, call{method: "GET", path: "/v2/app/blobs/" + d + query + token, status: 200})
	s.do(t, call{method: "GET", path: "/v2/app/blobs/" + unknownDigest + query + token, status: 401})
	s.do(t, call{method: "GET", path: "/v2/app2/blobs/" + d + query + token, status: 401})
	s.do(t, call{method: "GET", path: "/v2/app/manifests/" + d + query + token, status: 401})
	s.do(t, call{method: "DELETE", path: "/v2/app/blobs/" + d + query + token, status: 401})
	s.do(t, call{method: "GET", path: "/v2/app/blobs/" + d + query + good, status: 401})
}
