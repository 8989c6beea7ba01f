// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"thaw.dev/thaw/internal/s3test"
)

// sealedReads matches the reads of chunks and of segments of packs, from which
// a start may live as well, from the one after skip on.
func sealedReads(skip int32) func(*http.Request) bool {
	var n atomic.Int32
	return func(r *http.Request) bool {
		return r.Method == http.MethodGet && sealed.MatchString(r.URL.Path) && n.Add(1) > skip
	}
}

var sealed = regexp.MustCompile(`/thaw/zone/a/(chunks|objects/pack)/`)

// cold makes the next start of a function, the only one whose image is mounted,
// one that has nothing cached.
func (w *world) cold(ctx context.Context, client *lambda.Client, name string, round int) {
	w.t.Helper()
	if _, err := client.UpdateFunctionConfiguration(ctx, describe(name, round)); err != nil {
		w.t.Fatal(err)
	}
	// Sandboxes end apart from the request; what is mounted is not dropped.
	until(ctx, w.t, "the sandboxes to end", func() bool {
		return strings.Contains(w.thaw("cache", "drop", "l1"), "caches of 1 idle")
	})
}

// TestOriginInABucket follows a function whose origin is a bucket through its
// life, and through outages: every answer is right or an error, and everything
// goes on by itself when the object store is back.
func TestOriginInABucket(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket("thaw")
	proxy := s3test.NewProxy(t, server.Endpoint)
	w := newWorld(t, "--origin", s3test.URL(proxy.Endpoint, "thaw", "zone/a"))
	ctx := t.Context()
	const hash = `{"hash":"/usr"}`
	client := w.create(ctx, "hash", w.push("py-hello-probe:1", "hash:v1"))
	want, failed := invoke(ctx, t, client, "hash", hash)
	if failed != "" {
		t.Fatalf("hash: %s: %s", failed, want)
	}
	right := func(when string) {
		t.Helper()
		if got, failed := invoke(ctx, t, client, "hash", hash); failed != "" || got != want {
			t.Errorf("%s: %s %s, want %s", when, failed, got, want)
		}
	}

	w.cold(ctx, client, "hash", 1)
	proxy.Seen()
	right("cold from the bucket")
	if reads := len(sealed.FindAllString(strings.Join(proxy.Seen(), "\n"), -1)); reads < 10 {
		t.Errorf("a cold start read %d chunks and segments from the bucket", reads)
	}

	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	client = w.Lambda(w.creds)
	w.thaw("cache", "drop", "l1") // nothing is mounted yet
	right("after a restart")

	for round, outage := range map[int]func(){
		2: func() { proxy.Fail(-1, s3test.Any, s3test.Status(503, "SlowDown")) },
		3: func() { proxy.Fail(-1, sealedReads(5), s3test.Reset) }, // in the midst of the start
		4: func() { proxy.Fail(-1, sealedReads(5), s3test.WrongBytes) },
	} {
		w.cold(ctx, client, "hash", round)
		outage()
		out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("hash"), Payload: []byte(hash)})
		if err == nil && out.FunctionError == nil {
			t.Errorf("round %d: in an outage a cold start answers %s", round, out.Payload)
		}
		proxy.Heal()
		right("after the outage")
	}
	w.createInAnOutage(ctx, client, proxy)
}

// createInAnOutage: a function that is created while the origin takes nothing
// stays Pending, and becomes Active when the origin is back.
func (w *world) createInAnOutage(ctx context.Context, client *lambda.Client, proxy *s3test.Proxy) {
	w.t.Helper()
	ref := w.push("go-hello:1", "later:v1")
	proxy.Fail(-1, s3test.Any, s3test.Reset)
	_, err := client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String("later"), PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &ref},
		Role: aws.String("arn:aws:iam::000000000000:role/test"),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	until(ctx, w.t, "the preparation to meet the outage", func() bool {
		return strings.Contains(w.Log.String(), "waiting for the origin")
	})
	got, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("later")})
	if err != nil || got.State != types.StatePending {
		w.t.Errorf("in an outage the new function is %s, %v, want Pending", got.State, err)
	}
	proxy.Heal()
	if err := w.waitActive(ctx, client, "later"); err != nil {
		w.t.Fatal(err)
	}
	if got, failed := invoke(ctx, w.t, client, "later", `{"name":"you"}`); failed != "" || !strings.Contains(got, "hello you") {
		w.t.Errorf("later: %s %s", failed, got)
	}
}

// until waits for a condition; its bound is against hanging only.
func until(ctx context.Context, t *testing.T, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for !ready() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

var adminAddress = regexp.MustCompile(`admin=(127\.0\.0\.1:\d+)`)

// TestOriginThatIsNotThere: a server whose bucket can't be reached says which
// and what to do, is not ready, and becomes so by itself.
func TestOriginThatIsNotThere(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket("thaw")
	server.Stop()
	w := newWorld(t, "--origin", s3test.URL(server.Endpoint, "thaw", ""), "--admin-listen", "127.0.0.1:0")
	until(t.Context(), t, "the admin listener", func() bool { return adminAddress.MatchString(w.Log.String()) })
	admin := "http://" + adminAddress.FindStringSubmatch(w.Log.String())[1]
	ask := func(path string) (int, string) {
		response, err := http.Get(admin + path) //nolint:noctx // a test's own server
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body bytes.Buffer
		_, _ = io.Copy(&body, response.Body)
		return response.StatusCode, body.String()
	}
	until(t.Context(), t, "the first look at the origin", func() bool {
		_, body := ask("/readyz")
		return !strings.Contains(body, "not reached yet")
	})
	status, body := ask("/readyz")
	if status != http.StatusServiceUnavailable {
		t.Errorf("without its bucket the server's readyz is %d", status)
	}
	for _, part := range []string{"bucket thaw", server.Endpoint, "check that"} {
		if !strings.Contains(body, part) {
			t.Errorf("readyz says %q, not %q", body, part)
		}
	}
	server.Restart()
	until(t.Context(), t, "readiness", func() bool { status, _ := ask("/readyz"); return status == http.StatusOK })
	if _, metrics := ask("/metrics"); !strings.Contains(metrics, `thaw_origin_requests_total{operation="list",process="server",result="ok"} 1`) ||
		!strings.Contains(metrics, `thaw_origin_retry_budget{process="loader"} 100`) {
		t.Errorf("metrics lack the requests to the origin:\n%s", metrics)
	}
}

// TestStartsGoOnWithoutTheBucket: with the bucket away, starts whose chunks are in
// L1 go on, also after a restart; one that lacks a chunk fails in bounded time, as
// the host's fault.
func TestStartsGoOnWithoutTheBucket(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket("thaw")
	proxy := s3test.NewProxy(t, server.Endpoint)
	w := newWorld(t, "--origin", s3test.URL(proxy.Endpoint, "thaw", "zone/a"))
	ctx := t.Context()
	const payload = `{"name":"you"}`
	client := w.create(ctx, "hello", w.push("go-hello:1", "hello:v1"))
	greeted := func(when string) {
		t.Helper()
		got, failed := invoke(ctx, t, client, "hello", payload)
		if failed != "" || !strings.Contains(got, "hello you") {
			t.Errorf("%s: %s %s", when, failed, got)
		}
	}
	greeted("with the bucket")
	var seen []string
	until(ctx, t, "the start to be recorded and packed", func() bool {
		seen = append(seen, proxy.Seen()...)
		all := strings.Join(seen, "\n")
		packed := strings.LastIndex(all, "PUT /thaw/zone/a/objects/pack/")
		return packed >= 0 && strings.LastIndex(all, "PUT /thaw/zone/a/objects/workingset/") > packed
	})
	chunks := -1
	until(ctx, t, "L1 to be written", func() bool {
		before := chunks
		files, err := filepath.Glob(filepath.Join(w.Data, "l1", "??", "*"))
		chunks = len(files)
		time.Sleep(2 * time.Second) // it is written behind
		return err == nil && chunks > 0 && chunks == before
	})

	restart := func() {
		t.Helper()
		if err := w.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		client = w.Lambda(w.creds)
	}
	for name, fault := range map[string]s3test.Fault{"refused": s3test.Reset, "stalled": s3test.Stall, "throttled": s3test.Status(503, "SlowDown")} {
		restart()
		proxy.Fail(-1, s3test.Any, fault)
		greeted("cold, " + name)
		proxy.Heal()
	}

	// What is nowhere but in the bucket.
	restart()
	w.thaw("cache", "drop", "l1")
	proxy.Fail(-1, s3test.Any, s3test.Reset)
	bounded, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	out, err := client.Invoke(bounded, &lambda.InvokeInput{FunctionName: aws.String("hello"), Payload: []byte(payload)}, func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	var answer *smithyhttp.ResponseError
	if err == nil || !errors.As(err, &answer) || answer.HTTPStatusCode() < 500 {
		t.Errorf("without any chunk: %+v, %v", out, err)
	}
	proxy.Heal()
	greeted("after the outage")
}
