// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// BenchmarkTurn compares the server with one of net/http's on the same machine
// of states, driven by the same client: the measurement that justifies a server
// of our own (docs/invoke-path.md).
func BenchmarkTurn(b *testing.B) {
	b.Run("own", func(b *testing.B) {
		s, addr := serve(b)
		turns(b, s, addr)
	})
	b.Run("nethttp", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := New(Options{})
		hs := &http.Server{Handler: reference{s}}
		go func() { _ = hs.Serve(l) }()
		defer hs.Close()
		turns(b, s, l.Addr().String())
	})
}

func turns(b *testing.B, s *Server, addr string) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	go func() {
		const next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: a\r\n\r\n"
		const answer = "POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\nHost: a\r\n" +
			"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
		buf := make([]byte, 4096)
		for {
			for _, text := range []string{next, answer} {
				if _, err := io.WriteString(nc, text); err != nil {
					return
				}
				if _, err := nc.Read(buf); err != nil {
					return
				}
			}
		}
	}()
	<-s.Ready()
	inv := Invocation{ID: "id", Deadline: time.Now(), FunctionARN: "arn:aws:lambda:eu-west-1:123456789012:function:f",
		TraceID: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700", Payload: []byte(strings.Repeat("x", 48))}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		turn, err := s.Begin(inv)
		if err != nil {
			b.Fatal(err)
		}
		<-turn.Answered()
		<-turn.Done()
	}
	b.StopTimer()
}

// reference answers by net/http's server what a turn needs.
type reference struct{ s *Server }

func (h reference) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil
	if strings.HasSuffix(r.URL.Path, "/next") {
		got := make(chan *Turn, 1)
		waiting := &waiter{deliver: func(t *Turn) { got <- t }}
		turn, _ := h.s.next(waiting)
		if turn == nil {
			select {
			case turn = <-got:
			case <-r.Context().Done():
				h.s.leave(waiting)
				return
			}
		}
		inv := &turn.invocation
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", inv.ID)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", inv.Deadline.String())
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", inv.FunctionARN)
		w.Header().Set("Lambda-Runtime-Trace-Id", inv.TraceID)
		_, _ = w.Write(inv.Payload)
		return
	}
	turn, _ := h.s.accept("id", stateResponse)
	body, _ := io.ReadAll(r.Body)
	h.s.answer(turn, Response{Payload: body})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, "{\"status\":\"OK\"}\n")
}
