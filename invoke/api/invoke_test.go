// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	thaw "thaw.dev/thaw"
)

func TestInvoke(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	a := s.do(t, ask{method: "POST", path: functions + "/f/invocations?Qualifier=$LATEST", body: ` {"a": 1} `, header: map[string]string{
		"X-Amz-Log-Type": "Tail", "X-Amz-Client-Context": base64.StdEncoding.EncodeToString([]byte(`{"custom":{}}`)), "X-Amzn-Trace-Id": "Root=1"}})
	if a.status != 200 || a.body != ` {"a": 1} ` || a.header.Get("X-Amz-Executed-Version") != "$LATEST" ||
		a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Amz-Function-Error") != "" {
		t.Errorf("%+v", a)
	}
	request, target := s.invoker.last()
	if request.ClientContext != `{"custom":{}}` || request.TraceID != "Root=1" || !request.LogTail || request.ID != a.header.Get("X-Amzn-RequestId") {
		t.Errorf("%+v", request)
	}
	if target.Tenant != s.alice.ID || target.Name != "f" || !strings.HasSuffix(target.ARN, ":function:f:$LATEST") {
		t.Errorf("%+v", target)
	}
	log, err := base64.StdEncoding.DecodeString(a.header.Get("X-Amz-Log-Result"))
	if err != nil || string(log) != "START RequestId: "+request.ID+" Version: $LATEST\n" {
		t.Errorf("log %q, %v", log, err)
	}

	if a = s.do(t, ask{method: "POST", path: functions + "/f/invocations"}); a.status != 200 || a.body != "{}" || a.header.Get("X-Amz-Log-Result") != "" {
		t.Errorf("without a payload: %+v", a)
	}
	if a = s.do(t, ask{method: "POST", path: functions + "/f/invocations", body: `{"throw":"oh"}`}); a.status != 200 ||
		a.header.Get("X-Amz-Function-Error") != "Unhandled" || a.body != `{"errorMessage":"oh"}` {
		t.Errorf("a function's error: %+v", a)
	}
	largest := `"` + strings.Repeat("x", 6<<20-2) + `"`
	if a = s.do(t, ask{method: "POST", path: functions + "/f/invocations", body: largest}); a.status != 200 || a.body != largest {
		t.Errorf("the largest payload: %d, %d bytes", a.status, len(a.body))
	}
	invoked := s.invoker.count
	a = s.do(t, ask{method: "POST", path: functions + "/f/invocations", body: "{}", header: map[string]string{"X-Amz-Invocation-Type": "DryRun"}})
	if a.status != 204 || a.body != "" || s.invoker.count != invoked {
		t.Errorf("dry run: %+v", a)
	}
}

func TestInvocationOutlivesItsClient(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	s.invoker.hold, s.invoker.finished = make(chan struct{}), make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	r := s.request(t, ask{method: "POST", path: functions + "/f/invocations", body: "{}"}).WithContext(ctx)
	sent := make(chan error, 1)
	go func() { // ends when the request is canceled below
		response, err := http.DefaultClient.Do(r)
		if err == nil {
			response.Body.Close()
		}
		sent <- err
	}()
	for begun := false; !begun; time.Sleep(time.Millisecond) {
		s.invoker.mu.Lock()
		begun = s.invoker.count > 0
		s.invoker.mu.Unlock()
	}
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the server learns that the client has gone
	close(s.invoker.hold)
	select {
	case id := <-s.invoker.finished:
		if request, _ := s.invoker.last(); id != request.ID {
			t.Errorf("%s finished, not %s", id, request.ID)
		}
	case <-time.After(time.Minute):
		t.Error("the invocation ended with its client")
	}
}

func TestPresignedInvoke(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	r, err := http.NewRequest("POST", s.url+functions+"/f/invocations?X-Amz-Expires=60", nil)
	if err != nil {
		t.Fatal(err)
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	r.Header.Set("X-Amz-Content-Sha256", unsigned)
	signed, header, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: s.alice.AccessKeyID, SecretAccessKey: s.alice.Secret},
		r, unsigned, "lambda", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for path, status := range map[string]int{"/f/": 200, "/g/": 403} {
		again, err := http.NewRequest("POST", strings.Replace(signed, "/f/", path, 1), strings.NewReader(`{"any":"body"}`))
		if err != nil {
			t.Fatal(err)
		}
		again.Header = header.Clone()
		response, err := http.DefaultClient.Do(again)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != status || status == 200 && string(body) != `{"any":"body"}` {
			t.Errorf("%s: %d, %s, %v", path, response.StatusCode, body, err)
		}
	}
}

// BenchmarkInvoke is the whole way of a warm invocation but for the function:
// connection, signature, routing, control plane. BenchmarkBareEcho is the part
// of it that is HTTP, so the difference is the API's own.
func BenchmarkInvoke(b *testing.B) {
	s := newServer(b)
	s.ready(b, "f")
	wire := rawRequest(b, s.request(b, ask{method: "POST", path: functions + "/f/invocations", body: `{"hello":"world, this is a payload of 48 bytes"}`}))
	benchmarkRaw(b, strings.TrimPrefix(s.url, "http://"), wire)
}

func BenchmarkBareEcho(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = w.Write(body)
		}
		if err != nil {
			b.Error(err)
		}
	})}
	go server.Serve(listener) // ends with Close
	defer server.Close()
	r, err := http.NewRequest("POST", "http://"+listener.Addr().String()+"/", strings.NewReader(`{"hello":"world, this is a payload of 48 bytes"}`))
	if err != nil {
		b.Fatal(err)
	}
	benchmarkRaw(b, listener.Addr().String(), rawRequest(b, r))
}

// TestAFailedStartIsNeverTheCallersFault: of all kinds that an invoker can fail
// with, only throttling is told as a 4xx.
func TestAFailedStartIsNeverTheCallersFault(t *testing.T) {
	s := newServer(t)
	s.ready(t, "f")
	for kind := thaw.Kind(0); !strings.HasPrefix(kind.String(), "kind "); kind++ {
		if kind == thaw.Canceled {
			continue // the client is gone, and reads nothing
		}
		a := s.do(t, ask{method: "POST", path: functions + "/f/invocations", body: `{"refuse":"` + kind.String() + `"}`})
		if (a.status < 500) != (kind == thaw.Throttled) || strings.Contains(a.body, "secret") {
			t.Errorf("%v is told as %d %s", kind, a.status, a.body)
		}
	}
}
