// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"thaw.dev/thaw/bench/measure"
	"thaw.dev/thaw/e2e/stranger"
	"thaw.dev/thaw/internal/livetest"
)

// serverMB is what a server's memory has its peak below, whatever strangers do:
// generous, and a fraction of what any of these attacks took before.
const serverMB = 300

// peakBelow fails where the server's memory was larger.
func (w *world) peakBelow(mb int64) {
	w.t.Helper()
	peak, err := measure.PeakMB(w.PID())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("the server's memory had its peak at %d MB", peak)
	if peak > mb {
		w.t.Errorf("the server took %d MB, more than %d", peak, mb)
	}
}

// TestStrangersDoNoHarm: 2,000 connections without credentials that do all they
// can think of are no trouble for clients beside them, one at an address of its
// own and one that was there before them at one of theirs: no error, no wrong
// answer. The house is full all the time. Afterwards the server is as before.
func TestStrangersDoNoHarm(t *testing.T) {
	takes := time.Minute
	if testing.Short() {
		takes = 10 * time.Second
	}
	w := newWorld(t, append(withAdmin, "--connections", "1024", "--connections-per-address", "400")...)
	client := w.create(t.Context(), "hello", w.push("go-hello:1", "hello:v1"))
	from := []string{"127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"}
	inside := w.Lambda(w.creds, func(o *lambda.Options) {
		o.HTTPClient, o.RetryMaxAttempts = clientFrom(from[0]), 3 // the SDK's own: it may have to connect again, at a full address
	})
	invoke(t.Context(), t, inside, "hello", `{"name":"you"}`)

	ctx, cancel := context.WithTimeout(t.Context(), takes)
	defer cancel()
	var group sync.WaitGroup
	var report stranger.Report
	group.Go(func() {
		report = stranger.Run(ctx, stranger.Options{Server: w.Registry(), Connections: 2000, From: from, AccessKey: w.creds.AccessKey, Region: w.Region, Seed: 1})
	})
	group.Go(func() { w.keepInvoking(ctx, client, 0) })
	group.Go(func() { w.keepInvoking(ctx, client, 1<<20) })
	group.Go(func() { w.keepInvoking(ctx, inside, 0) })
	group.Go(func() { w.keepPushing(ctx) })
	group.Go(func() { w.keepUploading(ctx) })
	group.Wait()
	t.Logf("%d connections, %d refused; answers: %v", report.Connected, report.Refused, report.Answers)
	if report.Connected < 2000 || report.Answers["HTTP/1.1 403 Forbidden"] == 0 || report.Answers["HTTP/1.1 431 Request Header Fields Too Large"] == 0 {
		t.Error("the strangers did not do what they should")
	}
	if report.Answers["HTTP/1.1 500 Internal Server Error"] > 0 {
		t.Error("a stranger's request was told as the host's fault")
	}

	w.peakBelow(serverMB)
	until(t.Context(), t, "the strangers' connections to end", func() bool { return w.metric(`thaw_pool_held{pool="connections"}`) < 20 })
	if held := w.metric(`thaw_pool_held{pool="bodies"}`); held > 0 {
		t.Errorf("%v bytes of bodies are left", held)
	}
	if status, reasons := w.ready(); status != http.StatusOK {
		t.Errorf("afterwards: %d %s", status, reasons)
	}
	for line := range strings.Lines(w.Log.String()) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			t.Errorf("the server printed %s", line)
		}
	}
}

// clientFrom is an HTTP client that comes from an address.
func clientFrom(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
}

// metric is the value of one line of the metrics.
func (w *world) metric(line string) (value float64) {
	w.t.Helper()
	_, rest, ok := strings.Cut(w.metrics(), "\n"+line+" ")
	if _, err := fmt.Sscan(rest, &value); err != nil || !ok {
		w.t.Fatalf("no metric %s: %v", line, err)
	}
	return value
}

// keepInvoking invokes until ctx ends, with events of about that size.
func (w *world) keepInvoking(ctx context.Context, client *lambda.Client, size int) {
	var took []time.Duration
	for i := 0; ctx.Err() == nil; i++ {
		who := fmt.Sprintf("%d%s", i, strings.Repeat("x", size))
		event, _ := json.Marshal(map[string]string{"name": who})
		began := time.Now()
		out, err := client.Invoke(w.t.Context(), &lambda.InvokeInput{FunctionName: aws.String("hello"), Payload: event})
		took = append(took, time.Since(began))
		if err != nil || out.FunctionError != nil || !bytes.Contains(out.Payload, []byte(`"greeting":"hello `+who+`"`)) {
			w.t.Errorf("invocation %d of %d bytes: %.200v, %v", i, size, out, err)
			return
		}
		time.Sleep(10 * time.Millisecond) // the rate of a client, not of a benchmark
	}
	slices.Sort(took)
	w.t.Logf("%d invocations of %d bytes: p50 %s, p99 %s", len(took), size, took[len(took)/2], took[len(took)*99/100])
}

// keepPushing pushes and pulls images until ctx ends, each over new connections.
func (w *world) keepPushing(ctx context.Context) {
	n := 0
	for ; ctx.Err() == nil; n++ {
		if err := w.pushAndPull(n); err != nil {
			w.t.Errorf("push %d: %v", n, err)
			return
		}
	}
	w.t.Logf("%d pushes and pulls", n)
}

func (w *world) pushAndPull(n int) error {
	ref, err := name.NewTag(w.Registry()+fmt.Sprintf("/beside:v%d", n), name.Insecure)
	if err != nil {
		return err
	}
	client := clientFrom("127.0.0.1")
	defer client.CloseIdleConnections()
	options := []remote.Option{remote.WithAuth(&authn.Basic{Username: w.creds.AccessKey, Password: w.creds.Secret}),
		remote.WithTransport(client.Transport), remote.WithRetryPredicate(func(error) bool { return false })}
	image, err := random.Image(300<<10, 3, random.WithSource(rand.NewSource(int64(n))))
	if err != nil {
		return err
	}
	if err := remote.Write(ref, image, options...); err != nil {
		return err
	}
	back, err := remote.Image(ref, options...)
	if err != nil {
		return err
	}
	want, err := image.Layers()
	if err != nil {
		return err
	}
	got, err := back.Layers()
	if err != nil || len(got) != len(want) {
		return fmt.Errorf("%d layers, %w", len(got), err)
	}
	for i := range got {
		if err := sameBytes(got[i], want[i]); err != nil {
			return err
		}
	}
	return nil
}

func sameBytes(got, want v1.Layer) error {
	a, err := got.Compressed()
	if err != nil {
		return err
	}
	defer a.Close()
	pulled, err := io.ReadAll(a)
	if err != nil {
		return err
	}
	b, err := want.Compressed()
	if err != nil {
		return err
	}
	defer b.Close()
	if pushed, err := io.ReadAll(b); err != nil || !bytes.Equal(pulled, pushed) {
		return fmt.Errorf("%d bytes came back of %d, %w", len(pulled), len(pushed), err)
	}
	return nil
}

// keepUploading uploads parts of layers by ECR's API until ctx ends.
func (w *world) keepUploading(ctx context.Context) {
	if err := w.ecr(w.creds, "CreateRepository", map[string]any{"repositoryName": "parts"}, nil); err != nil {
		w.t.Error(err)
		return
	}
	n := 0
	for ; ctx.Err() == nil; n++ {
		if err := w.uploadPart(w.creds, "parts", 2<<20); err != nil {
			w.t.Errorf("upload %d: %v", n, err)
			return
		}
	}
	w.t.Logf("%d uploads of 2 MiB by ECR's API", n)
}

// uploadPart begins an upload by ECR's API and sends one part.
func (w *world) uploadPart(creds livetest.Credentials, repository string, size int) error {
	var upload struct{ UploadID string }
	if err := w.ecr(creds, "InitiateLayerUpload", map[string]any{"repositoryName": repository}, &upload); err != nil {
		return err
	}
	var got struct{ LastByteReceived int }
	err := w.ecr(creds, "UploadLayerPart", map[string]any{"repositoryName": repository, "uploadId": upload.UploadID,
		"partFirstByte": 0, "partLastByte": size - 1, "layerPartBlob": make([]byte, size)}, &got)
	if err == nil && got.LastByteReceived != size-1 {
		err = fmt.Errorf("it took %d bytes of %d", got.LastByteReceived+1, size)
	}
	return err
}

// ecr calls ECR's API as AWS's SDKs do.
func (w *world) ecr(creds livetest.Credentials, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := w.signed(creds, "ecr", "/", operation, body)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %s", operation, response.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// signed is a request that a tenant signed for a service; target is an operation
// of ECR's, or empty.
func (w *world) signed(creds livetest.Credentials, service, path, target string, body []byte) (*http.Request, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if target != "" {
		r.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921."+target)
	}
	sum := sha256.Sum256(body)
	r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:])) // so that the signature is verified before the body
	return r, v4.NewSigner().SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: creds.AccessKey, SecretAccessKey: creds.Secret},
		r, hex.EncodeToString(sum[:]), service, w.Region, time.Now())
}

// TestBodiesOfStrangers: bodies that come under a wrong signature, or are
// announced and never come, take neither the server's memory nor a place that
// others need; nor do those of a tenant.
func TestBodiesOfStrangers(t *testing.T) {
	w := newWorld(t, withAdmin...)
	other, err := w.CreateTenant(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ecr(w.creds, "CreateRepository", map[string]any{"repositoryName": "parts"}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for _, kinds := range [][]string{{"whole-body"}, {"no-body"}, {"slow-body"}} {
		group.Go(func() {
			stranger.Run(ctx, stranger.Options{Server: w.Registry(), Connections: 40, From: []string{"127.0.1.1"}, AccessKey: w.creds.AccessKey,
				Region: w.Region, Seed: 2, Kinds: kinds})
		})
	}
	// A tenant that signs what it announces, and sends nothing.
	for range 16 {
		conn, err := net.Dial("tcp", w.Registry())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		r, err := w.signed(other, "ecr", "/", "UploadLayerPart", make([]byte, 2<<20))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nX-Amz-Target: %s\r\nAuthorization: %s\r\nX-Amz-Date: %s\r\n"+
			"X-Amz-Content-Sha256: %s\r\nContent-Length: %d\r\n\r\n", r.Host, r.Header.Get("X-Amz-Target"), r.Header.Get("Authorization"),
			r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Content-Sha256"), r.ContentLength); err != nil {
			t.Fatal(err)
		}
	}
	until(t.Context(), t, "the strangers", func() bool {
		return w.metric(`thaw_pool_held{pool="connections"}`) > 100 && w.metric(`thaw_pool_held{pool="bodies"}`) > 200<<20
	})
	for i := range 10 {
		if err := w.uploadPart(w.creds, "parts", 2<<20); err != nil {
			t.Errorf("upload %d: %v", i, err)
		}
	}
	cancel()
	group.Wait()
	w.peakBelow(serverMB)
}

// TestSignaturesAreForOneService: what was signed for one service does nothing at
// another, although they are at one address and of one key.
func TestSignaturesAreForOneService(t *testing.T) {
	w := newWorld(t, withAdmin...)
	for _, try := range []struct {
		target, path, of string
		body             []byte
	}{
		{"DescribeRepositories", "/", "ecr", []byte("{}")},
		{"", "/2015-03-31/functions", "lambda", nil},
	} {
		for service, want := range map[string]int{"ecr": http.StatusForbidden, "lambda": http.StatusForbidden, "s3": http.StatusForbidden, try.of: http.StatusOK} {
			r, err := w.signed(w.creds, service, try.path, try.target, try.body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
			if err != nil || response.StatusCode != want || want != http.StatusOK && !strings.Contains(string(text), "correct service: '"+try.of+"'") {
				t.Errorf("%s of %s, signed for %s: %d %s, want %d", try.target+try.path, try.of, service, response.StatusCode, text, want)
			}
		}
	}
}

// TestProfilesAreTheOperators: profiles ask for the rights of the admin socket.
func TestProfilesAreTheOperators(t *testing.T) {
	w := newWorld(t, withAdmin...)
	w.metrics()
	admin := "http://" + adminAddress.FindStringSubmatch(w.Log.String())[1]
	socket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(w.Data, "run", "admin.sock"))
	}}}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace", "/debug/pprof/symbol"} {
		if status, _ := w.get(admin + path); status != http.StatusNotFound {
			t.Errorf("%s of the admin listener: %d, want 404", path, status)
		}
		response, err := socket.Get("http://thaw" + path)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, response.Body); err != nil || n == 0 || response.StatusCode != http.StatusOK {
			t.Errorf("%s of the admin socket: %d, %d bytes, %v", path, response.StatusCode, n, err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}
