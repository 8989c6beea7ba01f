// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// serve runs a Server on a loopback listener until the test ends, and checks
// then that it left no goroutine.
func serve(t testing.TB) (*Server, string) {
	t.Helper()
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		for range 200 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
	})
	return s, l.Addr().String()
}

// client is a runtime's connection: plain bytes, so that a test sees exactly
// what a runtime would.
type client struct {
	t  testing.TB
	nc net.Conn
	in *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, nc: nc, in: bufio.NewReader(nc)}
	t.Cleanup(func() { _ = nc.Close() })
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatal(err)
	}
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

func (c *client) reply() reply {
	c.t.Helper()
	if err := c.nc.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatalf("no reply: %v", err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return reply{r.StatusCode, r.Header, string(body)}
}

func (c *client) get(path string) reply {
	c.t.Helper()
	c.send("GET /2018-06-01" + path + " HTTP/1.1\r\nHost: api\r\n\r\n")
	return c.reply()
}

// next asks without waiting for the answer.
func (c *client) next() {
	c.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: api\r\n\r\n")
}

func (c *client) post(path, body string, headers ...string) reply {
	c.t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /2018-06-01%s HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n", path, len(body))
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n" + body)
	c.send(b.String())
	return c.reply()
}

func await(t testing.TB, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal("not " + what)
	}
}

func begin(t testing.TB, s *Server, id, payload string) *Turn {
	t.Helper()
	turn, err := s.Begin(Invocation{ID: id, Deadline: time.UnixMilli(1234567890123), Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

const (
	invalidID = `{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}`
	statusOK  = `{"status":"OK"}`
)

func transition(from, to string) string {
	return fmt.Sprintf(`{"errorMessage":"State transition from %s to %s failed for runtime. Error: `+
		`State transition is not allowed","errorType":"InvalidStateTransition"}`, from, to)
}

func (c *client) expect(what string, got reply, status int, body string) {
	c.t.Helper()
	if got.status != status || strings.TrimSpace(got.body) != body {
		c.t.Fatalf("%s: %d %q, want %d %q", what, got.status, got.body, status, body)
	}
}
