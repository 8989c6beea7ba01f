// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	containerregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/image/source"
	"thaw.dev/thaw/internal/sqlitedb"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/tenant/keys"
)

const someone thaw.TenantID = "111111111111"

// revoking is a registry that answers with status once its time has come: at the
// manifests asked for after the first, at every blob but the config, or
// in the middle of a layer, whose connection breaks.
type revoking struct {
	http.Handler
	at        string
	status    int
	manifests atomic.Int32
	broken    atomic.Bool
	layer     string // digest of the image's only layer
}

func (r *revoking) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	reads := req.Method == http.MethodGet
	layer := reads && strings.HasSuffix(req.URL.Path, "/blobs/"+r.layer)
	switch {
	case r.at == "manifest" && reads && strings.Contains(req.URL.Path, "/manifests/") && r.manifests.Add(1) > 1,
		r.at == "layer" && layer,
		r.at == "mid layer" && layer && r.broken.Swap(true):
		w.WriteHeader(r.status)
	case r.at == "mid layer" && layer:
		recorder := httptest.NewRecorder()
		r.Handler.ServeHTTP(recorder, req)
		w.Header().Set("Content-Length", recorder.Header().Get("Content-Length"))
		_, _ = w.Write(recorder.Body.Bytes()[:recorder.Body.Len()/2])
		panic(http.ErrAbortHandler)
	default:
		r.Handler.ServeHTTP(w, req)
	}
}

// pushLayered pushes an image of one layer for this host and returns the
// layer's digest.
func pushLayered(t *testing.T, ref string) string {
	t.Helper()
	data := testkit.PlainLayer(testkit.NewTar(t).File("f", strings.Repeat("content ", 50_000)).Bytes()).Data
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// openControl is a control plane that makes its images of a registry on
// loopback.
func openControl(t *testing.T) *control.Control {
	t.Helper()
	discard := slog.New(slog.DiscardHandler)
	o := registry.DefaultOptions(t.TempDir())
	o.Log = discard
	own, err := registry.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	egress, err := source.ParseEgress([]string{"http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.OpenLocal(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlitedb.Open(t.Context(), filepath.Join(t.TempDir(), "thaw.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	mem := store.NewMem()
	c, err := control.Open(t.Context(), control.Options{DB: db, RetryDelay: time.Millisecond, Log: discard, Images: &imageMaker{
		resolver: source.New(source.Options{Store: own, Egress: egress}), origin: &bucketOrigin{}, log: discard, ingest: ingest.Run,
		options: ingest.Options{Sink: mem, Objects: mem, Keys: k, SaltMaster: k.SaltMaster(), Root: currentRoot, TempDir: t.TempDir()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// TestRevokedWhilePrepared: a registry that lets the reference be resolved and
// then refuses, at whatever moment, makes a function that failed for want of
// access, and the reason names the image and the command that helps.
func TestRevokedWhilePrepared(t *testing.T) {
	role := "arn:aws:iam::111111111111:role/any"
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for _, at := range []string{"manifest", "layer", "mid layer"} {
			t.Run(at+" "+http.StatusText(status), func(t *testing.T) {
				there := &revoking{Handler: containerregistry.New(), status: status}
				s := httptest.NewServer(there)
				defer s.Close()
				host := strings.TrimPrefix(s.URL, "http://")
				there.layer = pushLayered(t, host+"/app:v1")
				there.at = at
				c := openControl(t)
				f, err := c.Create(t.Context(), someone, control.NewFunction{Name: "f", ImageURI: host + "/app:v1", Change: control.Change{Role: &role}})
				for deadline := time.Now().Add(time.Minute); err == nil && f.Next != nil; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("the function is still being prepared")
					}
					f, _, err = c.Get(t.Context(), someone, "f", "")
				}
				if err != nil {
					t.Fatal(err)
				}
				if f.State != control.Failed || f.ReasonCode != control.ReasonImageAccessDenied {
					t.Errorf("%s, %s: %s", f.State, f.ReasonCode, f.Reason)
				}
				for _, words := range []string{host + "/app@sha256:", `"thaw registry login ` + host + `"`} {
					if !strings.Contains(f.Reason, words) {
						t.Errorf("the reason does not say %s: %s", words, f.Reason)
					}
				}
			})
		}
	}
}
