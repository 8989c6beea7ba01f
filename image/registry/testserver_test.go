// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
)

// The accounts of the tests: two strangers and one who may publish.
const (
	alice     thaw.TenantID = "111111111111"
	bob       thaw.TenantID = "222222222222"
	publisher thaw.TenantID = "333333333333"
)

// secretOf is the password that goes with the access key "key-TENANT".
func secretOf(t thaw.TenantID) string { return "secret/of+" + string(t) }

func lookup(_ context.Context, accessKey string) (string, thaw.TenantID, error) {
	for _, t := range []thaw.TenantID{alice, bob, publisher} {
		if accessKey == "key-"+string(t) {
			return secretOf(t), t, nil
		}
	}
	return "", "", thaw.Errorf("lookup", thaw.NotFound, "no such key")
}

// currentKey finds the access key of one of them.
func currentKey(_ context.Context, t thaw.TenantID) (string, error) {
	_, _, err := lookup(context.Background(), "key-"+string(t))
	return "key-" + string(t), err
}

func issuer(t testing.TB) *registry.TokenIssuer {
	t.Helper()
	tokens, err := registry.NewTokenIssuer(bytes.Repeat([]byte{7}, 32), currentKey)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func options(dir string) registry.Options {
	o := registry.DefaultOptions(dir)
	o.Publishers = []thaw.TenantID{publisher}
	o.Log = slog.New(slog.DiscardHandler)
	return o
}

func openStore(t testing.TB, o registry.Options) *registry.Store {
	t.Helper()
	store, err := registry.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// server is a registry on loopback with logins, as `thaw serve` has it.
type server struct {
	*httptest.Server
	store  *registry.Store
	tokens *registry.TokenIssuer
}

func (s *server) host() string { return strings.TrimPrefix(s.URL, "http://") }

func startServer(t testing.TB, o registry.Options) *server {
	t.Helper()
	store, tokens := openStore(t, o), issuer(t)
	s := httptest.NewServer(registry.NewHandler(store, registry.BasicAuth(tokens, lookup), tokens))
	t.Cleanup(s.Close)
	return &server{Server: s, store: store, tokens: tokens}
}

// call is one request of a test and what must come back.
type call struct {
	method, path string
	as           thaw.TenantID // "" is anonymous
	body         []byte
	header       map[string]string
	status       int
	code         registry.Code // of the error, "" for none
}

// do sends the request, checks status and error code, and returns the answer
// with its body read.
func (s *server) do(t testing.TB, c call) (*http.Response, []byte) {
	t.Helper()
	target := c.path
	if !strings.HasPrefix(target, "http://") {
		target = s.URL + target
	}
	req, err := http.NewRequestWithContext(t.Context(), c.method, target, bytes.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	if c.as != "" {
		req.SetBasicAuth("key-"+string(c.as), secretOf(c.as))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != c.status {
		t.Fatalf("%s %s as %q: status %d, want %d: %s", c.method, c.path, c.as, resp.StatusCode, c.status, body)
	}
	if c.code != "" && c.method != http.MethodHead && !bytes.Contains(body, []byte(`"code":"`+string(c.code)+`"`)) {
		t.Fatalf("%s %s: error %s, want %s", c.method, c.path, body, c.code)
	}
	return resp, body
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pushBlob pushes in one request and returns the digest.
func (s *server) pushBlob(t testing.TB, as thaw.TenantID, repo string, data []byte) string {
	t.Helper()
	s.do(t, call{method: "POST", path: "/v2/" + repo + "/blobs/uploads/?digest=" + digest(data), as: as, body: data, status: 201})
	return digest(data)
}

// imageOf makes the manifest of an image of these blobs, the first of which is
// its config.
func imageOf(blobs ...[]byte) []byte {
	descriptor := func(mediaType string, data []byte) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest(data), len(data))
	}
	var layers []string
	for _, b := range blobs[1:] {
		layers = append(layers, descriptor("application/vnd.oci.image.layer.v1.tar", b))
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}`,
		descriptor("application/vnd.oci.image.config.v1+json", blobs[0]), strings.Join(layers, ","))
}

// pushImage pushes a small image and returns its manifest.
func (s *server) pushImage(t testing.TB, as thaw.TenantID, repo, tag, content string) []byte {
	t.Helper()
	config, layer := []byte(`{"os":"linux"}`), []byte(content)
	s.pushBlob(t, as, repo, config)
	s.pushBlob(t, as, repo, layer)
	manifest := imageOf(config, layer)
	s.do(t, call{method: "PUT", path: "/v2/" + repo + "/manifests/" + tag, as: as, body: manifest, status: 201})
	return manifest
}
