// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/sqlitedb"
	"thaw.dev/thaw/invoke/api"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/control/controltest"
	"thaw.dev/thaw/tenant"
	"thaw.dev/thaw/tenant/sigv4"
)

const role = "arn:aws:iam::111111111111:role/any"

// echo is an invoker that answers with the event, as a function would, unless
// the event tells it otherwise.
type echo struct {
	mu       sync.Mutex
	count    int            // of invocations
	request  api.Request    // the last one
	target   control.Target // of the last one
	finished chan string    // ids of invocations that ran to their end, if not nil
	hold     chan struct{}
}

// Invoke implements [api.Invoker].
func (e *echo) Invoke(ctx context.Context, target control.Target, request api.Request) (*api.Response, error) {
	e.mu.Lock()
	e.count++
	e.request, e.target = request, target
	hold, finished := e.hold, e.finished
	e.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if finished != nil {
		finished <- request.ID
	}
	var event struct{ Throw, Refuse string }
	_ = json.Unmarshal(request.Payload, &event) // an event of another shape asks for nothing
	switch {
	case event.Refuse != "":
		return nil, thaw.Errorf("invoke", thaw.ParseKind(event.Refuse), "secret of the host")
	case event.Throw != "":
		return &api.Response{Payload: []byte(`{"errorMessage":"` + event.Throw + `"}`), FunctionError: "Unhandled"}, nil
	}
	response := &api.Response{Payload: request.Payload}
	if request.LogTail {
		response.LogTail = []byte("START RequestId: " + request.ID + " Version: " + target.Version + "\n")
	}
	return response, nil
}

func (e *echo) last() (api.Request, control.Target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.request, e.target
}

// server is the API on a real listener, with everything real but the images
// and the functions.
type server struct {
	url        string
	images     *controltest.Images
	invoker    *echo
	alice, bob tenant.Account
	control    *control.Control
}

func newServer(t testing.TB) *server {
	t.Helper()
	ctx := context.Background()
	db, err := sqlitedb.Open(ctx, filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	accounts, err := tenant.Open(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{images: controltest.NewImages(), invoker: &echo{}}
	for name, account := range map[string]*tenant.Account{"alice": &s.alice, "bob": &s.bob} {
		if *account, err = accounts.Create(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	s.control, err = control.Open(ctx, control.Options{DB: db, Images: s.images, Architecture: "x86_64",
		RetryDelay: time.Millisecond, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.control.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	listener := httptest.NewServer(api.New(api.Options{Control: s.control, Invoker: s.invoker, Log: log,
		Auth: sigv4.New(sigv4.Config{Lookup: accounts.Credential, Services: []string{"lambda", "ecr"}})}))
	t.Cleanup(listener.Close)
	s.url = listener.URL
	return s
}

// ready makes an active function of alice's.
func (s *server) ready(t testing.TB, name string) {
	t.Helper()
	s.images.Push(s.alice.ID, "127.0.0.1:5000/app:1", controltest.Image{Content: "one", Command: []string{"run"}})
	create := `{"FunctionName":"` + name + `","PackageType":"Image","Role":"` + role + `","Code":{"ImageUri":"127.0.0.1:5000/app:1"}}`
	if a := s.do(t, ask{method: "POST", path: "/2015-03-31/functions", body: create}); a.status != 201 {
		t.Fatalf("create %s: %d, %s", name, a.status, a.body)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		a := s.do(t, ask{method: "GET", path: "/2015-03-31/functions/" + name + "/configuration"})
		if strings.Contains(a.body, `"State":"Active"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not become active: %s", name, a.body)
		}
	}
}

// ask is a request to be signed and sent; answer what came back.
type ask struct {
	method, path, body string
	header             map[string]string
	as                 tenant.Account // alice if zero
	service            string         // lambda if empty
	unsigned           bool
}

type answer struct {
	status  int
	body    string
	header  http.Header
	problem string // of the header x-amzn-ErrorType
	message string // of the body, in either case
}

func (s *server) request(t testing.TB, q ask) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), q.method, s.url+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	if q.unsigned {
		return r
	}
	if q.as == (tenant.Account{}) {
		q.as = s.alice
	}
	if q.service == "" {
		q.service = "lambda"
	}
	sum := sha256.Sum256([]byte(q.body))
	err = v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: q.as.AccessKeyID, SecretAccessKey: q.as.Secret},
		r, hex.EncodeToString(sum[:]), q.service, "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *server) do(t testing.TB, q ask) answer {
	t.Helper()
	response, err := http.DefaultClient.Do(s.request(t, q))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: response.StatusCode, body: string(body), header: response.Header, problem: response.Header.Get("X-Amzn-ErrorType")}
	var members struct{ Message string } // Go's decoder takes "message" too
	if bytes.HasPrefix(body, []byte("{")) {
		_ = json.Unmarshal(body, &members)
	}
	a.message = members.Message
	if a.header.Get("X-Amzn-RequestId") == "" {
		t.Errorf("%s %s: no request id", q.method, q.path)
	}
	return a
}

func (s *server) sdk(account tenant.Account) *lambda.Client {
	return lambda.New(lambda.Options{Region: "us-east-1", BaseEndpoint: aws.String(s.url), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account.AccessKeyID, account.Secret, "")})
}
