// SPDX-License-Identifier: Apache-2.0

package bucket_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/s3test"
	"thaw.dev/thaw/store/bucket"
	"thaw.dev/thaw/store/storetest"
)

// quick are bounds that let a test see their effect soon.
var quick = bucket.Options{RequestTimeout: 5 * time.Second, RetryFor: 30 * time.Second, Backoff: time.Millisecond}

// behindProxy is an origin whose object store fails as the proxy is told.
func behindProxy(t *testing.T, o bucket.Options) (*s3test.Proxy, *bucket.Bucket) {
	t.Helper()
	server := s3test.Start(t)
	server.Bucket("origin")
	proxy := s3test.NewProxy(t, server.Endpoint)
	b := mustOpen(t, s3test.URL(proxy.Endpoint, "origin", "a/b"), o)
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return proxy, b
}

func wantKind(t *testing.T, what string, err error, want thaw.Kind) {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeded, want an error of kind %q", what, want)
	} else if got := thaw.KindOf(err); got != want {
		t.Errorf("%s: kind %q, want %q: %v", what, got, want, err)
	}
}

// count returns how many requests of an operation ended so.
func count(b *bucket.Bucket, operation, result string) int64 {
	for _, c := range b.Stats().Requests {
		if c.Operation == operation && c.Result == result {
			return c.Requests
		}
	}
	return 0
}

// TestWhatPassesIsTriedAgain: each fault that may pass by itself strikes three
// times, and nobody sees it.
func TestWhatPassesIsTriedAgain(t *testing.T) {
	o := quick
	o.RequestTimeout = time.Second
	proxy, b := behindProxy(t, o)
	seed := uint64(0)
	for name, c := range map[string]struct {
		fault         s3test.Fault
		result        string
		onlyWithBytes bool // needs a body of the answer
	}{
		"500":        {s3test.Status(500, "InternalError"), "failed", false},
		"502":        {s3test.Status(502, ""), "failed", false},
		"SlowDown":   {s3test.Status(503, "SlowDown"), "throttled", false},
		"429":        {s3test.Status(429, "TooManyRequests"), "throttled", false},
		"reset":      {s3test.Reset, "broken", false},
		"lost":       {s3test.LoseAnswer, "broken", false},
		"truncated":  {s3test.Truncate, "broken", true},
		"slow body":  {s3test.Stall, "timeout", true},
		"put aborts": {s3test.Status(409, "ConditionalRequestConflict"), "failed", false},
	} {
		t.Run(name, func(t *testing.T) {
			seed++
			chunk, sealed := storetest.Sealed(seed, 100_000)
			if !c.onlyWithBytes {
				before := count(b, "put", c.result)
				proxy.Fail(3, s3test.Method(http.MethodPut), c.fault)
				if err := b.Put(t.Context(), sealed.Named()); err != nil {
					t.Fatalf("Put: %v", err)
				}
				if n := count(b, "put", c.result) - before; n != 3 {
					t.Errorf("%d puts are counted as %s, want 3: %+v", n, c.result, b.Stats().Requests)
				}
			} else if err := b.Put(t.Context(), sealed.Named()); err != nil {
				t.Fatal(err)
			}
			before := count(b, "get", c.result)
			proxy.Fail(3, s3test.Method(http.MethodGet), c.fault)
			got, err := b.Get(t.Context(), chunk)
			if err != nil || !bytes.Equal(got, sealed) {
				t.Errorf("Get: %d bytes, %v", len(got), err)
			}
			// net/http asks again itself where a connection that it had kept breaks.
			if n := count(b, "get", c.result) - before; n != 3 && (n != 2 || c.result != "broken") {
				t.Errorf("%d gets are counted as %s, want 3: %+v", n, c.result, b.Stats().Requests)
			}
			proxy.Heal()
		})
	}
}

// TestWhatDoesNotPass: one request, and an error that says what it is. None but
// an object's own absence is NotFound.
func TestWhatDoesNotPass(t *testing.T) {
	proxy, b := behindProxy(t, quick)
	chunk, sealed := storetest.Sealed(1, 10_000)
	if err := b.Put(t.Context(), sealed.Named()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fault s3test.Fault
		kind  thaw.Kind
		text  string
	}{
		"wrong bytes":   {s3test.WrongBytes, thaw.Corrupt, "another name"},
		"absent":        {s3test.Status(404, "NoSuchKey"), thaw.NotFound, "not in the store"},
		"no bucket":     {s3test.Status(404, "NoSuchBucket"), thaw.Unavailable, "bucket origin at " + proxy.Endpoint + " does not exist"},
		"denied":        {s3test.Status(403, "AccessDenied"), thaw.Unavailable, "denies it"},
		"skewed":        {s3test.Status(403, "RequestTimeTooSkewed"), thaw.Unavailable, "RequestTimeTooSkewed"},
		"other region":  {s3test.Status(301, "PermanentRedirect"), thaw.Unavailable, "301"},
		"nonsense":      {s3test.Status(400, "InvalidRequest"), thaw.Unavailable, "InvalidRequest"},
		"not a service": {s3test.Status(418, ""), thaw.Unavailable, "418"},
	} {
		t.Run(name, func(t *testing.T) {
			defer proxy.Heal()
			proxy.Fail(-1, s3test.Any, c.fault)
			proxy.Seen()
			_, err := b.Get(t.Context(), chunk)
			wantKind(t, "Get", err, c.kind)
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("Get: %q does not say %q", err, c.text)
			}
			if seen := proxy.Seen(); len(seen) != 1 {
				t.Errorf("it made the requests %q, want one", seen)
			}
			if c.kind == thaw.Unavailable != bucket.IsOutage(err) {
				t.Errorf("IsOutage = %v for %v", bucket.IsOutage(err), err)
			}
			if c.kind == thaw.Corrupt {
				return // an object's bytes mean something to those who read it
			}
			_, err = b.ReadObject(t.Context(), "manifest/x", 0, 10)
			wantKind(t, "ReadObject", err, c.kind)
			if has, err := b.Has(t.Context(), chunk); c.kind == thaw.Unavailable && name != "no bucket" && err == nil {
				// A HEAD has no body that could tell a missing bucket.
				t.Errorf("Has = %v although the object store refuses", has)
			}
		})
	}
	if got, err := b.Get(t.Context(), chunk); err != nil || !bytes.Equal(got, sealed) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestBudget: an outage is not answered with a multiple of the load. When the
// budget is spent every request is made once and fails as unavailable; when the
// object store is back successes earn retries again.
func TestBudget(t *testing.T) {
	o := quick
	o.RetryBudget, o.RetryFor = 20, time.Minute
	proxy, b := behindProxy(t, o)
	chunk, sealed := storetest.Sealed(1, 1000)
	if err := b.Put(t.Context(), sealed.Named()); err != nil {
		t.Fatal(err)
	}
	proxy.Fail(-1, s3test.Any, s3test.Status(503, "SlowDown"))
	proxy.Seen()
	const reads = 100
	var group errgroup.Group
	for range reads {
		group.Go(func() error {
			_, err := b.Get(t.Context(), chunk)
			wantKind(t, "Get in an outage", err, thaw.Unavailable)
			return nil
		})
	}
	_ = group.Wait()
	if n := len(proxy.Seen()); n != reads+20 {
		t.Errorf("%d reads made %d requests, want %d and the budget's 20", reads, n, reads)
	}
	if s := b.Stats(); s.Retries != 20 || s.RetriesRefused != reads || s.RetryBudget >= 1 {
		t.Errorf("stats %+v", s)
	}
	proxy.Heal()
	for range 10 { // pay for one retry
		if _, err := b.Get(t.Context(), chunk); err != nil {
			t.Fatalf("after the outage: %v", err)
		}
	}
	proxy.Fail(1, s3test.Any, s3test.Reset)
	if _, err := b.Get(t.Context(), chunk); err != nil {
		t.Errorf("after successes one failure is not forgiven: %v", err)
	}
}

// TestServerThatIsGone: no server at all is an outage, and its return is seen.
func TestServerThatIsGone(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket("origin")
	o := quick
	o.RetryBudget = 3
	b := mustOpen(t, s3test.URL(server.Endpoint, "origin", ""), o)
	chunk, sealed := storetest.Sealed(1, 1000)
	if err := b.Put(t.Context(), sealed.Named()); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	_, err := b.Get(t.Context(), chunk)
	wantKind(t, "Get without a server", err, thaw.Unavailable)
	err = b.Check(t.Context())
	wantKind(t, "Check without a server", err, thaw.Unavailable)
	for _, part := range []string{"origin", server.Endpoint, "check that the endpoint"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("Check's error %q does not say %q", err, part)
		}
	}
	server.Restart()
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("Check after the server's return: %v", err)
	}
	if got, err := b.Get(t.Context(), chunk); err != nil || !bytes.Equal(got, sealed) {
		t.Errorf("after the server's return: %v", err)
	}
}

// TestCheck: what can be wrong at the start is told apart, with what to do.
func TestCheck(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket("origin")
	for name, c := range map[string]struct {
		location string
		env      [2]string
		kind     thaw.Kind
		texts    []string
	}{
		"no bucket": {s3test.URL(server.Endpoint, "other", ""), [2]string{}, thaw.Unavailable, []string{"other", server.Endpoint, "make the bucket"}},
		"unknown":   {s3test.URL(server.Endpoint, "origin", ""), [2]string{"AWS_ACCESS_KEY_ID", "nobody"}, thaw.Unavailable, []string{"credentials"}},
		"wrong":     {s3test.URL(server.Endpoint, "origin", ""), [2]string{"AWS_SECRET_ACCESS_KEY", "wrong"}, thaw.Unavailable, []string{"credentials", "policy"}},
		"none":      {s3test.URL(server.Endpoint, "origin", ""), [2]string{"AWS_ACCESS_KEY_ID", ""}, thaw.Unavailable, []string{"credentials"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.env[0] != "" {
				t.Setenv(c.env[0], c.env[1])
			}
			o := quick
			o.RetryBudget = 2
			err := mustOpen(t, c.location, o).Check(t.Context())
			wantKind(t, "Check", err, c.kind)
			for _, text := range c.texts {
				if err != nil && !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
		})
	}
	t.Run("another format", func(t *testing.T) {
		b := mustOpen(t, s3test.URL(server.Endpoint, "origin", ""), quick)
		for range 2 { // makes it, then finds it
			if err := b.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		underTest{b, server.Dir + "/origin"}.overwrite(t, "FORMAT", "thaw store 2\n")
		wantKind(t, "Check", b.Check(t.Context()), thaw.Invalid)
	})
}

// TestWithoutConditionalPut: a server that does not know If-None-Match is asked
// for the chunk first.
func TestWithoutConditionalPut(t *testing.T) {
	proxy, b := behindProxy(t, quick)
	conditional := func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }
	proxy.Fail(-1, conditional, s3test.Status(501, "NotImplemented"))
	for seed, want := range [][]string{{"PUT", "HEAD", "PUT"}, {"HEAD", "PUT"}} {
		chunk, sealed := storetest.Sealed(uint64(seed), 1000)
		for _, want := range [][]string{want, {"HEAD"}} { // new, then known
			proxy.Seen()
			if err := b.Put(t.Context(), sealed.Named()); err != nil {
				t.Fatal(err)
			}
			seen := proxy.Seen()
			if len(seen) != len(want) {
				t.Errorf("Put made %q, want %q", seen, want)
				continue
			}
			for i := range want {
				if !strings.HasPrefix(seen[i], want[i]+" ") {
					t.Errorf("Put made %q, want %q", seen, want)
				}
			}
		}
		if got, err := b.Get(t.Context(), chunk); err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("Get: %v", err)
		}
	}
}

// TestRequestsAreBounded: however many ask, no more requests are under way than
// was said, and who gives up waiting leaves at once.
func TestRequestsAreBounded(t *testing.T) {
	o := quick
	o.Concurrency, o.RequestTimeout, o.RetryBudget = 4, time.Minute, 1
	proxy, b := behindProxy(t, o)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	proxy.Fail(-1, s3test.Any, func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) {
		arrived <- struct{}{}
		<-release
		s3test.Status(404, "NoSuchKey")(w, r, nil)
	})
	chunk, _ := storetest.Sealed(1, 10)
	var group errgroup.Group
	for range 20 {
		group.Go(func() error {
			_, err := b.Get(t.Context(), chunk)
			wantKind(t, "Get", err, thaw.NotFound)
			return nil
		})
	}
	for range 4 {
		<-arrived
	}
	ctx, cancel := context.WithCancel(t.Context())
	group.Go(func() error {
		_, err := b.Get(ctx, chunk)
		wantKind(t, "Get of who gave up", err, thaw.Canceled)
		return nil
	})
	cancel()
	if n := b.Stats().UnderWay; n != 4 || len(arrived) != 0 {
		t.Errorf("%d requests are under way and %d more arrived, want 4 and none", n, len(arrived))
	}
	close(release)
	_ = group.Wait()
}
