// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const ping = "GET /2018-06-01/ping HTTP/1.1\r\nHost: a\r\n\r\n"

// piped is a runtime's connection without a network, whose time a test has in
// its hands.
func piped(t *testing.T, s *Server) *client {
	t.Helper()
	runtimeSide, serverSide := net.Pipe()
	if !s.enter(serverSide) {
		t.Fatal("not entered")
	}
	t.Cleanup(func() { _ = runtimeSide.Close(); s.Close() })
	return &client{t: t, nc: runtimeSide, in: bufio.NewReader(runtimeSide)}
}

// TestRequestsArePaced: what a runtime asks for beside its invocations, it asks
// for at a bounded rate, on however many connections, and its function's log is
// told.
func TestRequestsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		s := New(Options{Slowed: func() { told.Add(1) }})
		one, other := piped(t, s), piped(t, s)
		begin := time.Now()
		for range tokensMost / 2 {
			one.expect("ping", one.get("/ping"), 200, "pong")
			other.expect("ping", other.get("/ping"), 200, "pong")
		}
		if took := time.Since(begin); took != 0 || told.Load() != 0 {
			t.Errorf("what is allowed at once took %v, and was told %d times", took, told.Load())
		}
		for range tokensPerSecond {
			one.expect("ping", one.get("/ping"), 200, "pong")
			other.expect("ping", other.get("/ping"), 200, "pong")
		}
		if took := time.Since(begin); took < 2*time.Second-time.Millisecond || told.Load() != 1 {
			t.Errorf("%d more took %v, and were told %d times", 2*tokensPerSecond, took, told.Load())
		}
	})
}

// TestPipelinedRequestsArePaced: requests that are there already are not served
// ahead of their time.
func TestPipelinedRequestsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		c := piped(t, s)
		go func() { _, _ = io.WriteString(c.nc, strings.Repeat(ping, 2*tokensMost)) }()
		var answered atomic.Int64
		go func() {
			for {
				if _, err := http.ReadResponse(c.in, nil); err != nil {
					return
				}
				_, _ = c.in.Discard(len("pong"))
				answered.Add(1)
			}
		}()
		synctest.Wait()
		if n := answered.Load(); n != tokensMost {
			t.Errorf("%d were answered at once", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := answered.Load(); n > tokensMost+tokensPerSecond {
			t.Errorf("%d were answered a second later", n)
		}
	})
}

// TestInvocationsAreNotPaced: a runtime that only serves is served at once,
// however many invocations there are, and so is one that connects for each.
func TestInvocationsAreNotPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		c := piped(t, s)
		c.next()
		synctest.Wait()
		begin := time.Now()
		for i := range 4 * tokensMost {
			id := fmt.Sprint(i)
			if _, err := s.Begin(Invocation{ID: id, Payload: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
			c.expect("next", c.reply(), 200, "{}")
			c.expect("response", c.post("/runtime/invocation/"+id+"/response", "{}"), 202, `{"status":"OK"}`)
			s.spend(turnTokens - 2) // as connections
			c.next()
			synctest.Wait()
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("they took %v", took)
		}
	})
}

// TestConnectionsArePaced: connections are accepted at a bounded rate.
func TestConnectionsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		l := &flood{ended: make(chan struct{})}
		go func() { _ = s.Serve(l) }()
		synctest.Wait()
		if n := l.accepted.Load(); n > tokensMost+1 {
			t.Errorf("%d were accepted at once", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := l.accepted.Load(); n > tokensMost+tokensPerSecond+1 {
			t.Errorf("%d were accepted a second later", n)
		}
		s.Close()
		synctest.Wait()
	})
}

// flood is a listener with many connections, whose other ends are gone.
type flood struct {
	accepted atomic.Int64
	ended    chan struct{}
}

func (f *flood) Accept() (net.Conn, error) {
	if f.accepted.Add(1) > 4*tokensMost {
		<-f.ended
		return nil, net.ErrClosed
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}

func (f *flood) Close() error   { close(f.ended); return nil }
func (f *flood) Addr() net.Addr { return nil }

// TestRefusedBodiesArePaced: the bytes of a body that nobody wants cost tokens.
func TestRefusedBodiesArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		c := piped(t, s)
		const length = 40 * tokenBytes
		s.spend(tokensMost)
		begin := time.Now()
		c.send("POST /2018-06-01/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: " + itoa(length) + "\r\n\r\n")
		go func() { _, _ = io.WriteString(c.nc, strings.Repeat("x", length)) }()
		c.expect("nothing", c.reply(), 404, "404 page not found")
		if took := time.Since(begin); took < 41*time.Second/tokensPerSecond-time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestTheSameInvocationAgainIsPaced: a runtime that asks again for a large
// invocation, which it has, is sent it at a bounded rate.
func TestTheSameInvocationAgainIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		c := piped(t, s)
		c.next()
		synctest.Wait()
		if _, err := s.Begin(Invocation{ID: "id", Payload: make([]byte, 32*tokenBytes)}); err != nil {
			t.Fatal(err)
		}
		c.reply()
		s.spend(tokensMost)
		begin := time.Now()
		c.next()
		c.reply()
		if took := time.Since(begin); took < 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestLargeHeadersWaitForRoom: a header that is larger than usual is read where
// its tenant has room, and not for ever.
func TestLargeHeadersWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewAnswers()
		var held []func()
		for {
			release, ok := pool.TryAcquire("a", 2*maxHeaderBytes)
			if !ok {
				break
			}
			held = append(held, release)
		}
		half := "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 2*smallHeaderBytes)
		s := New(Options{Owner: "a", Answers: pool})
		c := piped(t, s)
		_ = c.nc.SetWriteDeadline(time.Now().Add(time.Hour))
		if n, err := io.WriteString(c.nc, half); err == nil || n > smallHeaderBytes+readBytes {
			t.Fatalf("without room %d bytes were taken, %v", n, err)
		}
		neighbour := New(Options{Owner: "b", Answers: pool})
		n := piped(t, neighbour)
		n.send(half + "\r\nContent-Length: 2\r\n\r\n{}")
		n.expect("a neighbour's", n.reply(), 202, `{"status":"OK"}`)

		held[0]()
		again := piped(t, neighbour)
		begin := time.Now()
		again.send(half)
		if got, err := http.ReadResponse(again.in, nil); err != nil || got.StatusCode != 400 || time.Since(begin) != refusedTime {
			t.Errorf("half a header: %+v, %v after %v", got, err, time.Since(begin))
		}
		for _, release := range held {
			release()
		}
	})
}

// TestLargeAnswersTakeTurns: half-sent answers of one tenant hold no more than
// its share, and another's whole one is taken.
func TestLargeAnswersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewAnswers()
		answering := func(owner, length string, body int) (*client, *Turn) {
			s := New(Options{Owner: owner, Answers: pool})
			c := piped(t, s)
			c.next()
			synctest.Wait()
			turn, err := s.Begin(Invocation{ID: "id", Payload: []byte("{}")})
			if err != nil {
				t.Fatal(err)
			}
			c.reply()
			go func() {
				_, _ = io.WriteString(c.nc, "POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nHost: a\r\n"+length+"\r\n\r\n")
				_, _ = c.nc.Write(make([]byte, body))
			}()
			synctest.Wait()
			return c, turn
		}
		var last *client
		for range 40 { // 240 MiB
			last, _ = answering("a", "Content-Length: "+itoa(MaxPayloadBytes), 0)
		}
		if u := pool.Usage(); u.Held > MaxHeldBytes/2 || u.Waiting == 0 {
			t.Errorf("%d bytes are held, %d wait", u.Held, u.Waiting)
		}
		_ = last.nc.Close() // while it waits
		whole, turn := answering("b", "Content-Length: "+itoa(MaxPayloadBytes), MaxPayloadBytes)
		whole.expect("a neighbour's", whole.reply(), 202, `{"status":"OK"}`)
		if got := len(turn.Response().Payload); got != MaxPayloadBytes {
			t.Errorf("%d bytes came", got)
		}
		if _, turn := answering("a", "Transfer-Encoding: chunked", 0); turn == nil {
			t.Error("a small one waits too")
		}
	})
}

// TestStreamedAnswers: a chunked answer arrives whole, whatever its length.
func TestStreamedAnswers(t *testing.T) {
	for _, length := range []int{0, 1, freeBytes - 1, freeBytes, freeBytes + 1, MaxPayloadBytes, MaxPayloadBytes + 1} {
		s, addr := serve(t)
		c := dial(t, addr)
		c.next()
		await(t, "ready", s.Ready())
		turn := begin(t, s, "id", "{}")
		c.reply()
		body := strings.Repeat("x", length)
		if length > 0 {
			body = hex(length) + "\r\n" + body + "\r\n"
		}
		c.send("POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + "0\r\n\r\n")
		want := 202
		if length > MaxPayloadBytes {
			want = 413
		}
		if got := c.reply(); got.status != want {
			t.Errorf("%d bytes: %d", length, got.status)
		}
		if got := turn.Response(); want == 202 && len(got.Payload) != length || got.Failed != (want == 413) {
			t.Errorf("%d bytes: %d came, failed %v", length, len(got.Payload), got.Failed)
		}
	}
}
