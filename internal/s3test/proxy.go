// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"testing"
)

// Proxy passes requests on to a server, except those that are to fail. It is
// safe for concurrent use.
type Proxy struct {
	Endpoint string // its URL

	forward *httputil.ReverseProxy

	mu    sync.Mutex
	rules []*rule
	seen  []string // "METHOD path" of each request
}

type rule struct {
	match func(*http.Request) bool
	left  int
	fault Fault
}

// Fault answers a request in place of the server. forward asks the server.
type Fault func(w http.ResponseWriter, r *http.Request, forward func() *http.Response)

// NewProxy starts a proxy before a server's endpoint and ends it with the test.
func NewProxy(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{forward: &httputil.ReverseProxy{
		// The host stays what the client signed.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
		},
		Transport:    &http.Transport{MaxIdleConnsPerHost: 100},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.Endpoint = server.URL
	return p
}

// Fail has the next times requests that match fail so; a negative number is
// without end.
func (p *Proxy) Fail(times int, match func(*http.Request) bool, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &rule{match, times, fault})
}

// Heal ends all failing.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Seen returns the requests so far, as "METHOD path", and forgets them.
func (p *Proxy) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// Any matches every request.
func Any(*http.Request) bool { return true }

// Method matches requests of one method.
func Method(method string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method }
}

func (p *Proxy) faultFor(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, r.Method+" "+r.URL.Path)
	for _, rule := range p.rules {
		if rule.left != 0 && rule.match(r) {
			rule.left--
			return rule.fault
		}
	}
	return nil
}

// ServeHTTP passes a request on, or has it fail.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := p.faultFor(r)
	if fault == nil {
		p.forward.ServeHTTP(w, r)
		return
	}
	fault(w, r, func() *http.Response {
		recorder := httptest.NewRecorder()
		p.forward.ServeHTTP(recorder, r)
		return recorder.Result()
	})
}

// Status answers with an error of S3.
func Status(status int, code string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ func() *http.Response) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>injected</Message></Error>", code)
	}
}

// Reset breaks the connection off before an answer.
func Reset(w http.ResponseWriter, _ *http.Request, _ func() *http.Response) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = connection.(*net.TCPConn).SetLinger(0)
	_ = connection.Close()
}

// LoseAnswer does what is asked and then breaks the connection off.
func LoseAnswer(w http.ResponseWriter, r *http.Request, forward func() *http.Response) {
	_ = forward()
	Reset(w, r, nil)
}

// Truncate breaks the connection off in the middle of the body.
func Truncate(w http.ResponseWriter, _ *http.Request, forward func() *http.Response) {
	half(w, forward())
	panic(http.ErrAbortHandler)
}

// Stall stops in the middle of the body until the client gives up.
func Stall(w http.ResponseWriter, r *http.Request, forward func() *http.Response) {
	half(w, forward())
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// WrongBytes changes one bit of the body.
func WrongBytes(w http.ResponseWriter, _ *http.Request, forward func() *http.Response) {
	body := head(w, forward())
	body[len(body)/2] ^= 1
	_, _ = w.Write(body)
}

func half(w http.ResponseWriter, response *http.Response) {
	body := head(w, response)
	_, _ = w.Write(body[:len(body)/2])
	w.(http.Flusher).Flush()
}

// head writes a response without its body, which it returns.
func head(w http.ResponseWriter, response *http.Response) []byte {
	body, err := io.ReadAll(response.Body)
	if err != nil || len(body) == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(response.StatusCode)
	return body
}
