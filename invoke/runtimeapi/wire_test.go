// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"bytes"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }
func hex(n int) string  { return strconv.FormatInt(int64(n), 16) }

func TestPaths(t *testing.T) {
	_, addr := serve(t)
	c := dial(t, addr)
	c.expect("ping", c.get("/ping"), 200, "pong")
	for _, path := range []string{"/nothing", "/runtime/invocation/", "/runtime/invocation/a/b", "/runtime/restore/next"} {
		c.expect(path, c.get(path), 404, "404 page not found")
	}
	c.expect("wrong method", c.post("/runtime/invocation/next", "body"), 405, "")
	c.expect("wrong method", c.get("/runtime/init/error"), 405, "")
	c.send("GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: api\r\n\r\n")
	c.expect("extensions", c.reply(), 404, "404 page not found")
}

func TestPipelined(t *testing.T) {
	s, addr := serve(t)
	c := dial(t, addr)
	c.next()
	c.send("GET /2018-06-01/ping HTTP/1.1\r\nHost: api\r\n\r\n")
	await(t, "ready", s.Ready())
	begin(t, s, "id-1", "{}")
	if got := c.reply(); got.header.Get("Lambda-Runtime-Aws-Request-Id") != "id-1" {
		t.Fatalf("first answer: %+v", got)
	}
	c.expect("second answer", c.reply(), 200, "pong")
}

func TestConnectionClose(t *testing.T) {
	_, addr := serve(t)
	for _, request := range []string{
		"GET /2018-06-01/ping HTTP/1.0\r\n\r\n",
		"GET /2018-06-01/ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	} {
		c := dial(t, addr)
		c.send(request)
		c.expect("ping", c.reply(), 200, "pong")
		if _, err := c.in.ReadByte(); err != io.EOF {
			t.Fatalf("after the answer: %v", err)
		}
	}
}

// TestConnectionCloseOfNext: a client that asks for one invocation on a
// connection, as PHP's streams do, waits for its end after the answer.
func TestConnectionCloseOfNext(t *testing.T) {
	for _, version := range []string{"HTTP/1.0", "HTTP/1.1\r\nHost: a\r\nConnection: close"} {
		for _, payload := range []string{"{}", strings.Repeat("x", inlineBytes+1)} {
			s, addr := serve(t)
			c := dial(t, addr)
			c.send("GET /2018-06-01/runtime/invocation/next " + version + "\r\n\r\n")
			await(t, "ready", s.Ready())
			begin(t, s, "id-1", payload)
			if got := c.reply(); got.status != 200 || got.body != payload {
				t.Fatalf("%s: %+v", version, got)
			}
			if _, err := c.in.ReadByte(); err != io.EOF {
				t.Fatalf("%s: after the answer: %v", version, err)
			}
			other := dial(t, addr)
			other.expect("response", other.post("/runtime/invocation/id-1/response", "done"), 202, `{"status":"OK"}`)
		}
	}
}

func TestMalformed(t *testing.T) {
	_, addr := serve(t)
	for name, row := range map[string]struct {
		text   string
		status int
	}{
		"no request":  {"hello\r\n\r\n", 400},
		"bad header":  {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
		"two lengths": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		"huge header": {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxHeaderBytes), 431},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(row.text)
			if got := c.reply(); got.status != row.status {
				t.Fatalf("%d, want %d", got.status, row.status)
			}
		})
	}
}

// TestConnectionBound: a function that opens connections without end is cut
// off, and served again once it has closed some.
func TestConnectionBound(t *testing.T) {
	s, addr := serve(t)
	var open []*client
	for range maxConns {
		c := dial(t, addr)
		c.expect("ping", c.get("/ping"), 200, "pong")
		open = append(open, c)
	}
	over := dial(t, addr)
	if _, err := over.in.ReadByte(); err == nil {
		t.Fatal("a connection over the bound was served")
	}
	_ = open[0].nc.Close()
	for {
		s.mu.Lock()
		n := len(s.open)
		s.mu.Unlock()
		if n < maxConns {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c := dial(t, addr)
	c.expect("ping", c.get("/ping"), 200, "pong")
}

// TestCloseBeforeServe: the order of the two does not matter, nor does it if the
// sandbox has closed the listener already.
func TestCloseBeforeServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{})
	s.Close()
	s.Close()
	if err := s.Serve(l); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Fatal("still listening")
	}
	if err := s.Serve(l); err != nil {
		t.Fatal(err)
	}
}

// FuzzConn feeds a connection arbitrary bytes while an invocation is offered:
// whatever a function sends, the server ends when it is closed and answers a
// turn at most once.
func FuzzConn(f *testing.F) {
	next := "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: a\r\n\r\n"
	f.Add([]byte(next + "POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" + next))
	f.Add([]byte(next + "POST /2018-06-01/runtime/invocation/id/error HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n"))
	f.Add([]byte("POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}" + next))
	f.Add([]byte("GET /2018-06-01/ping HTTP/1.0\r\n\r\n"))
	f.Add([]byte("POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		s := New(Options{})
		runtimeSide, serverSide := net.Pipe()
		if !s.enter(serverSide) {
			t.Fatal("not entered")
		}
		read := make(chan []byte)
		go func() {
			var out bytes.Buffer
			_, _ = io.Copy(&out, runtimeSide)
			read <- out.Bytes()
		}()
		offered := make(chan struct{})
		go func() {
			defer close(offered)
			select {
			case <-s.Ready():
				if turn, err := s.Begin(Invocation{ID: "id", Payload: []byte("{}")}); err == nil {
					select {
					case <-turn.Answered():
					case <-s.closed:
					}
				}
			case <-s.closed:
			}
		}()
		_ = runtimeSide.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = runtimeSide.Write(input)
		_ = runtimeSide.Close()
		s.Close()
		<-offered
		if out := <-read; len(out) > 0 && !bytes.HasPrefix(out, []byte("HTTP/1.1 ")) {
			t.Fatalf("not HTTP: %q", out)
		}
	})
}

// starved is a listener that has no descriptors for its first connections.
type starved struct {
	net.Listener
	left atomic.Int32
}

func (l *starved) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// TestStarved: a server that can't accept for want of descriptors goes on.
func TestStarved(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, hungry := New(Options{}), &starved{Listener: l}
	hungry.left.Store(3)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(hungry) }()
	c := dial(t, l.Addr().String())
	c.expect("ping", c.get("/ping"), 200, "pong")
	s.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
