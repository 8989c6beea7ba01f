package source

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// pushJobs is how many layers are pushed at once, as docker and the library do.
const pushJobs = 4

// lostIsAbsent has a layer sent again that the registry can't say whether it has:
// ours answers so for one that it has lost.
type lostIsAbsent struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t lostIsAbsent) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil && r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/") && resp.StatusCode == http.StatusInternalServerError {
		resp.StatusCode, resp.Status = http.StatusNotFound, "404 Not Found"
	}
	return resp, err
}

// Push writes an image that [LoadLocal] opened to a registry, whole: with its
// non-distributable layers, without which it can't be run, and with layers that
// the registry has lost although it has the manifest. The library by itself
// leaves out both. A channel of progress among the options is left open.
func Push(ctx context.Context, ref name.Reference, image v1.Image, options ...remote.Option) error {
	pusher, err := remote.NewPusher(append(options, remote.WithContext(ctx), remote.WithNondistributable, remote.WithUserAgent("thaw"),
		remote.WithTransport(lostIsAbsent{remote.DefaultTransport}))...)
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(image)
	if err != nil {
		return err
	}
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(pushJobs)
	for _, layer := range append([]v1.Layer{config}, layers...) {
		g.Go(func() error { return pusher.Upload(each, ref.Context(), layer) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return pusher.Push(ctx, ref, image)
}
