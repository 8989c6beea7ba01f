// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
)

const (
	pathPrefix = "/2018-06-01"
	pathTurns  = pathPrefix + "/runtime/invocation/"

	// maxHeaderBytes lets the X-Ray cause through, which clients send in a
	// header of up to 1 MiB.
	maxHeaderBytes = 1<<20 + 64<<10

	// smallHeaderBytes is what the headers of all other requests have room in.
	smallHeaderBytes = 16 << 10

	// readBytes is a connection's read buffer. It also bounds the trailer of a
	// chunked body, which may hold an error with its stack trace.
	readBytes = 16 << 10

	// maxDrainBytes is how much of a refused body is read, so that a client
	// that writes before it reads sees the refusal and not a reset.
	maxDrainBytes = 32 << 20

	// inlineBytes is the largest payload copied behind its header and written
	// by the caller of Begin itself.
	inlineBytes = 64 << 10
)

// conn is one connection of the runtime. One goroutine reads it; the answer to
// a waiting `next` is written by whoever calls Begin, which spares the wake-up
// of that goroutine. net/http parses the requests, but its server is not used:
// a turn costs a sixth less CPU and half the allocations without it, a waiting
// runtime one goroutine instead of two (docs/invoke-path.md).
type conn struct {
	server *Server
	nc     net.Conn
	raw    syscall.RawConn // nil where nc has none
	from   input
	in     *bufio.Reader
	out    []byte // scratch of the reading goroutine
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn() // nil: written by a goroutine
	}
	c.from = input{server: s, nc: nc}
	c.in = bufio.NewReaderSize(&c.from, readBytes)
	return c
}

// serve answers request after request until the connection is of no more use.
func (c *conn) serve() {
	defer c.from.end()
	for {
		c.from.begin()
		if _, err := c.in.Peek(1); err != nil || !c.server.spend(1) {
			return
		}
		r, err := http.ReadRequest(c.in)
		if err != nil {
			c.refuseUnread(err)
			return
		}
		c.from.body()
		c.server.asked.Store(true)
		if c.from.large && r.Method != http.MethodPost { // only errors have reason to
			c.refuse(headerTooLarge, true)
			return
		}
		if !c.handle(r) {
			return
		}
		c.from.end()
	}
}

var headerTooLarge = &refusal{http.StatusRequestHeaderFieldsTooLarge, "InvalidRequest", "Request header too large"}

// refuseUnread answers what is not a request; at a connection's end there is
// nothing to answer.
func (c *conn) refuseUnread(err error) {
	switch {
	case c.from.left <= 0:
		c.refuse(headerTooLarge, true)
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET):
	default:
		c.refuse(&refusal{http.StatusBadRequest, "InvalidRequest", "Malformed HTTP request"}, true)
	}
}

// handle answers one request and reports whether the connection can serve
// another.
func (c *conn) handle(r *http.Request) bool {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, pathTurns); ok {
		if rest == "next" {
			return c.method(r, http.MethodGet, c.handleNext)
		}
		id, verb, _ := strings.Cut(rest, "/")
		switch verb {
		case "response":
			return c.method(r, http.MethodPost, func(r *http.Request) bool { return c.handleResponse(r, id) })
		case "error":
			return c.method(r, http.MethodPost, func(r *http.Request) bool { return c.handleError(r, id) })
		}
	}
	switch path {
	case pathPrefix + "/runtime/init/error":
		return c.method(r, http.MethodPost, c.handleInitError)
	case pathPrefix + "/ping":
		return c.method(r, http.MethodGet, func(r *http.Request) bool {
			return c.finish(r, http.StatusOK, "text/plain; charset=utf-8", []byte("pong"))
		})
	}
	return c.finish(r, http.StatusNotFound, "text/plain; charset=utf-8", []byte("404 page not found\n"))
}

func (c *conn) method(r *http.Request, want string, h func(*http.Request) bool) bool {
	if r.Method != want {
		return c.finish(r, http.StatusMethodNotAllowed, "", nil)
	}
	return h(r)
}

// handleNext waits without a goroutine of its own: the read of the following
// request doubles as the watch for the connection's end.
func (c *conn) handleNext(r *http.Request) bool {
	if !c.discard(r, false) {
		return false
	}
	sent := make(chan struct{})
	w := &waiter{deliver: func(t *Turn) { c.deliver(t, r.Close, sent) }}
	turn, no := c.server.next(w)
	switch {
	case no != nil:
		return c.refuse(no, r.Close)
	case turn != nil:
		if !c.server.spend(int64(len(turn.invocation.Payload) / tokenBytes)) {
			return false
		}
		w.deliver(turn)
	default:
		if _, err := c.in.Peek(1); err != nil {
			c.server.leave(w)
			return false
		}
	}
	select {
	case <-sent:
		return !r.Close
	case <-c.server.closed:
		return false
	}
}

// deliver writes an invocation as the answer to `next` and closes sent once it
// is written or can't be. It does not block. After the last answer of a
// connection it closes that: the reader waits for a request which a client that
// waits for the connection's end will not send.
func (c *conn) deliver(t *Turn, last bool, sent chan struct{}) {
	head := appendInvocation(make([]byte, 0, 1024+min(len(t.invocation.Payload), inlineBytes)), &t.invocation, last)
	payload := t.invocation.Payload
	if len(payload) <= inlineBytes && c.raw != nil {
		head = append(head, payload...)
		payload = nil
		n := 0
		err := c.raw.Write(func(fd uintptr) bool {
			var err error
			if n, err = syscall.Write(int(fd), head); err != nil {
				n = 0 // the blocking write meets the error again, or waits
			}
			return true
		})
		if err == nil && n == len(head) {
			if last {
				_ = c.nc.Close() // it is written
			}
			close(sent)
			return
		}
		head = head[n:]
	}
	c.server.spawn(func() {
		defer close(sent)
		bufs := net.Buffers{head, payload}
		if _, err := bufs.WriteTo(c.nc); err != nil || last {
			_ = c.nc.Close() // the reader must see that the answer is lost, or the last
		}
	})
}

func appendInvocation(b []byte, inv *Invocation, last bool) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\n"...)
	b = appendHeader(b, "Lambda-Runtime-Aws-Request-Id", inv.ID)
	b = appendHeader(b, "Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.Deadline.UnixMilli(), 10))
	b = appendHeader(b, "Lambda-Runtime-Invoked-Function-Arn", inv.FunctionARN)
	b = appendHeader(b, "Lambda-Runtime-Trace-Id", inv.TraceID)
	b = appendHeader(b, "Lambda-Runtime-Client-Context", inv.ClientContext)
	b = appendHeader(b, "Content-Type", "application/json")
	b = appendHeader(b, "Content-Length", strconv.Itoa(len(inv.Payload)))
	if last {
		b = appendHeader(b, "Connection", "close")
	}
	return append(b, "\r\n"...)
}

// appendHeader writes a header unless its value is empty. A value comes from
// whoever invokes: control characters in it become blanks, so that it can't end
// the header.
func appendHeader(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, name...)
	b = append(b, ": "...)
	for i := range len(value) {
		if ch := value[i]; ch < ' ' || ch == 0x7f {
			b = append(b, ' ')
		} else {
			b = append(b, ch)
		}
	}
	return append(b, "\r\n"...)
}

func (c *conn) refuse(no *refusal, last bool) bool {
	body, err := json.Marshal(struct {
		ErrorMessage string `json:"errorMessage"`
		ErrorType    string `json:"errorType"`
	}{no.message, no.errorType})
	if err != nil {
		return false
	}
	return c.write(no.status, "application/json", append(body, '\n'), last)
}

// finish reads what is left of a request's body and answers.
func (c *conn) finish(r *http.Request, status int, contentType string, body []byte) bool {
	drained := c.discard(r, false)
	return c.write(status, contentType, body, r.Close || !drained) && drained
}

// proceed tells a client that waits for leave to send its body to do so, once.
func (c *conn) proceed(r *http.Request) {
	if strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		r.Header.Del("Expect")
		_, _ = io.WriteString(c.nc, "HTTP/1.1 100 Continue\r\n\r\n") // the body's read meets the error
	}
}

// write answers and reports whether the connection can serve another request.
func (c *conn) write(status int, contentType string, body []byte, last bool) bool {
	b := append(c.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	b = append(b, "\r\n"...)
	b = appendHeader(b, "Content-Type", contentType)
	b = appendHeader(b, "Content-Length", strconv.Itoa(len(body)))
	if last {
		b = appendHeader(b, "Connection", "close")
	}
	b = append(b, "\r\n"...)
	b = append(b, body...)
	c.out = b
	_, err := c.nc.Write(b)
	return err == nil && !last
}
