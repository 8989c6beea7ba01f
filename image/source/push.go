// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	thaw "thaw.dev/thaw"
)

// pushJobs is how many layers are pushed at once, as docker and the library do.
const pushJobs = 4

// pushTransport makes the requests of a push.
type pushTransport struct {
	http.RoundTripper
	scheme string
}

// RoundTrip implements [http.RoundTripper]. It keeps to the scheme: with
// addresses that look local the library falls back from HTTPS to plain HTTP, with
// the credentials.
func (t pushTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != t.scheme {
		return nil, thaw.Errorf(op, thaw.Denied, "%s is asked by %s only", r.URL.Host, t.scheme)
	}
	return t.RoundTripper.RoundTrip(r)
}

// Push writes an image that [LoadLocal] opened to a registry, whole: with its
// non-distributable layers, without which it can't be run, and with layers that
// were deleted in the registry although it has the manifest. The library by itself
// leaves out both. It speaks only scheme, "http" or "https". A channel of progress among the options is left open.
func Push(ctx context.Context, scheme string, ref name.Reference, image v1.Image, options ...remote.Option) error {
	pusher, err := remote.NewPusher(append(options, remote.WithContext(ctx), remote.WithNondistributable, remote.WithUserAgent("thaw"),
		remote.WithTransport(pushTransport{remote.DefaultTransport, scheme}))...)
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
