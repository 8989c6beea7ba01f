// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/source"
)

// flaky is a registry whose connections break: each answer of a blob ends after
// at most max bytes, without a word.
type flaky struct {
	http.Handler
	max    int
	ranges bool
	broken atomic.Int32
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/blobs/") || r.Method != http.MethodGet {
		f.Handler.ServeHTTP(w, r)
		return
	}
	if !f.ranges {
		r.Header.Del("Range")
	}
	f.Handler.ServeHTTP(&breaking{ResponseWriter: w, f: f, left: f.max}, r)
}

type breaking struct {
	http.ResponseWriter
	f    *flaky
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		n, err := b.ResponseWriter.Write(p[:b.left])
		if err != nil {
			return n, err
		}
		b.f.broken.Add(1)
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}

// foreign is another registry: ours behind something, as another host.
func foreign(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	there := startOwn(t)
	tokens, err := registry.NewTokenIssuer(bytes.Repeat([]byte{2}, 32), currentKey)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(wrap(registry.NewHandler(there.store, registry.BasicAuth(tokens, lookup), tokens)))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func credentials(_ context.Context, tenant thaw.TenantID, _ string) (string, string, error) {
	return string(tenant), string(tenant), nil
}

func TestResolveForeign(t *testing.T) {
	reg := startOwn(t)
	image := host(t)
	for _, run := range []struct {
		name   string
		max    int
		ranges bool
	}{{"sound", 1 << 30, true}, {"breaking", 7000, true}, {"without ranges", 15_000, false}} {
		t.Run(run.name, func(t *testing.T) {
			var f *flaky
			addr := foreign(t, func(h http.Handler) http.Handler {
				f = &flaky{Handler: h, max: run.max, ranges: run.ranges}
				return f
			})
			push(t, addr+"/team/app:v1", image, login(alice))
			resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}, Credentials: credentials, Egress: allow(t, "http://127.0.0.1")})
			got, err := resolver.Resolve(t.Context(), alice, addr+"/team/app:v1")
			if run.ranges == false {
				// It can't get past the point where each connection breaks.
				if err != nil {
					t.Fatal(err)
				}
				in, err := got.Layers[0].Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				_, err = io.Copy(io.Discard, in)
				expectError(t, err, thaw.Unavailable, "the download broke off")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			expectImage(t, got, image)
			if again, err := resolver.Resolve(t.Context(), alice, got.Pinned); err != nil || again.Digest != got.Digest {
				t.Errorf("%s: %+v, %v", got.Pinned, again, err)
			}
			if run.max < 10_000 && f.broken.Load() == 0 {
				t.Error("no connection broke")
			}
			_, err = resolver.Resolve(t.Context(), bob, addr+"/team/app:v1")
			expectError(t, err, thaw.NotFound, "does not exist")
			anonymous := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}, Egress: allow(t, "http://127.0.0.1")})
			_, err = anonymous.Resolve(t.Context(), alice, addr+"/team/app:v1")
			expectError(t, err, thaw.Denied, "no permission to access the source image")
		})
	}
}

// TestCloseEndsRead: ingest closes a layer while a read of it runs.
func TestCloseEndsRead(t *testing.T) {
	reg := startOwn(t)
	stop := make(chan struct{})
	addr := foreign(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || r.Header.Get("X-Config") != "" {
				h.ServeHTTP(w, r)
				return
			}
			recorder := httptest.NewRecorder()
			h.ServeHTTP(recorder, r)
			w.Header().Set("Content-Length", fmt.Sprint(recorder.Body.Len()))
			if recorder.Body.Len() < 10_000 { // the config
				_, _ = w.Write(recorder.Body.Bytes())
				return
			}
			_, _ = w.Write(recorder.Body.Bytes()[:100])
			w.(http.Flusher).Flush()
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		})
	})
	defer close(stop)
	push(t, addr+"/app:v1", host(t), login(alice))
	resolver := source.New(source.Options{Store: reg.store, Credentials: credentials, Egress: allow(t, "http://127.0.0.1")})
	image, err := resolver.Resolve(t.Context(), alice, addr+"/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	in, err := image.Layers[0].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(in, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := in.Read(make([]byte, 100))
		done <- err
	}()
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the read ended with %v", err)
	}
}

// TestPolicy: which hosts are spoken to, and how.
func TestPolicy(t *testing.T) {
	reg := startOwn(t)
	var mu sync.Mutex // the library asks by both schemes at once
	var asked []string
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.Scheme+"://"+r.URL.Host)
		return nil, errors.New("no network in tests")
	})
	resolver := source.New(source.Options{Store: reg.store, Hosts: []string{reg.host}, Transport: transport, Credentials: credentials,
		Egress: allow(t, "http://10.1.1.2:5000")})
	for _, try := range []struct {
		ref   string
		plain bool
		kind  thaw.Kind
	}{
		{"10.1.1.1:5000/app:v1", false, thaw.Denied}, // a private network is no reason to speak plainly
		{"10.1.1.2:5000/app:v1", true, thaw.Unavailable},
		{"127.5.5.5:5000/app:v1", false, thaw.Unavailable}, // nor is loopback
		{"registry.example/app:v1", false, thaw.Unavailable},
	} {
		_, err := resolver.Resolve(t.Context(), alice, try.ref)
		if thaw.KindOf(err) != try.kind || err == nil {
			t.Errorf("%s: %v (%v), want %v", try.ref, err, thaw.KindOf(err), try.kind)
		}
		mu.Lock()
		if plain := strings.Contains(strings.Join(asked, " "), "http://"); plain != try.plain {
			t.Errorf("%s: asked %v", try.ref, asked)
		}
		asked = nil
		mu.Unlock()
	}
}

// TestRefusalIsOneLine: of a host that may not be reached the tenant reads
// which it is and what the operator can do, and nothing of the ways that were
// tried.
func TestRefusalIsOneLine(t *testing.T) {
	resolver := source.New(source.Options{Store: startOwn(t).store})
	_, err := resolver.Resolve(t.Context(), alice, "10.1.1.1/app:v1")
	want := "source: 10.1.1.1 has no public address; the operator can permit it: thaw serve --allow-registry 10.1.1.1"
	if thaw.KindOf(err) != thaw.Denied || err == nil || err.Error() != want {
		t.Errorf("%v (%v), want %s", err, thaw.KindOf(err), want)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestForeignLies: what another registry sends is checked before it is used.
func TestForeignLies(t *testing.T) {
	reg := startOwn(t)
	var mode string
	addr := foreign(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case mode == "config" && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/"),
				mode == "manifest" && strings.Contains(r.URL.Path, "/manifests/"):
				recorder := httptest.NewRecorder()
				h.ServeHTTP(recorder, r)
				for k, v := range recorder.Header() {
					w.Header()[k] = v
				}
				changed := bytes.ReplaceAll(recorder.Body.Bytes(), []byte(`sha256:`), []byte(`sha257:`))
				_, _ = w.Write(changed)
			case mode == "schema1" && strings.Contains(r.URL.Path, "/manifests/"):
				w.Header().Set("Content-Type", string(types.DockerManifestSchema1Signed))
				_, _ = io.WriteString(w, `{"schemaVersion":1}`)
			case mode == "huge" && strings.Contains(r.URL.Path, "/manifests/"):
				w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
				_, _ = w.Write(make([]byte, registry.MaxManifestBytes+1))
			case mode == "busy" && strings.Contains(r.URL.Path, "/manifests/"):
				w.WriteHeader(http.StatusTooManyRequests)
			default:
				h.ServeHTTP(w, r)
			}
		})
	})
	image := host(t)
	push(t, addr+"/app:v1", image, login(alice))
	resolver := source.New(source.Options{Store: reg.store, Credentials: credentials, Egress: allow(t, "http://127.0.0.1")})
	for _, try := range []struct {
		mode, ref string
		kind      thaw.Kind
		text      string
	}{
		{"config", "/app:v1", thaw.Corrupt, "the registry sent sha256:"},
		{"manifest", "/app@" + digestOf(t, image), thaw.Corrupt, "the registry sent sha256:"},
		{"schema1", "/app:v1", thaw.Invalid, "docker schema 1 image"},
		{"huge", "/app:v1", thaw.Invalid, "more than 4194304 bytes"},
		{"busy", "/app:v1", thaw.Throttled, "can't be read"},
	} {
		mode = try.mode
		_, err := resolver.Resolve(t.Context(), alice, addr+try.ref)
		expectError(t, err, try.kind, try.text)
	}
}
