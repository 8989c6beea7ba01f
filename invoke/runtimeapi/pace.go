// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"io"
	"math"
	"net"
	"net/http"
	"time"

	"thaw.dev/thaw/internal/fair"
)

// What a runtime has served costs the server processor time that no control
// group of the function's counts. So each request and each connection takes a
// token of the sandbox, and so does every tokenBytes that are read in vain or
// sent again. An invocation brings the tokens that it needs; a runtime that asks
// for more than invocations are is served at tokensPerSecond in the long run: its
// connections are not read meanwhile, and its time passes.
const (
	tokensPerSecond = 16
	tokensMost      = 512

	// turnTokens are for two requests and, of a runtime that keeps none open, two
	// connections.
	turnTokens = 4

	tokenBytes = 64 << 10
)

const (
	// freeBytes is how much of a body the server holds of any sandbox. It is a
	// small part of the memory that the smallest sandbox has.
	freeBytes = 1 << 20

	// MaxHeldBytes is the size of a pool of answers: twenty of the largest are
	// read at a time.
	MaxHeldBytes = 128 << 20

	// refusedTime is how long a request may take that is refused, or whose header
	// is large.
	refusedTime = 10 * time.Second
)

// Options say whose runtime a [Server] serves. The zero value is for one alone.
type Options struct {
	// Owner is the tenant, and Answers what all runtimes of a worker share: the
	// bytes of large answers that are being read. See [NewAnswers].
	Owner   string
	Answers *fair.Pool

	// Slowed is told, once, that the runtime asks for more than invocations are and
	// is kept waiting. It must not block. nil discards.
	Slowed func()
}

// NewAnswers returns the pool of the large answers that are being read.
func NewAnswers() *fair.Pool {
	return fair.New(fair.Options{Name: "answers", Size: MaxHeldBytes, KeepFree: true})
}

// spend takes tokens and waits until they are there. It reports whether the
// server is open still.
func (s *Server) spend(tokens int64) bool {
	wait := s.tokens.Spend(tokens)
	if wait == 0 {
		return true
	}
	s.slowed.Do(func() {
		if s.options.Slowed != nil {
			s.options.Slowed()
		}
	})
	return fair.Pause(s.closed, wait)
}

// room waits for room for so many bytes. It fails only where the server closes.
func (s *Server) room(bytes int64) (release func(), ok bool) {
	release, err := s.options.Answers.Acquire(s.life, s.options.Owner, bytes)
	return release, err == nil
}

// input is what is read of a connection: as much of a header as may be, then the
// body.
type input struct {
	server  *Server
	nc      net.Conn
	left    int64  // that may still be read
	large   bool   // the header is larger than smallHeaderBytes
	release func() // of the room that it has then
}

// begin is called before each request.
func (in *input) begin() { in.left, in.large = smallHeaderBytes, false }

// body is called once the header is read.
func (in *input) body() { in.left = math.MaxInt64 }

// end is called when a request is answered.
func (in *input) end() {
	if in.release != nil {
		in.release()
		in.release = nil
		_ = in.nc.SetReadDeadline(time.Time{}) // the next read meets what is wrong
	}
}

func (in *input) Read(p []byte) (int, error) {
	if in.left <= 0 && !in.grow() {
		return 0, io.EOF
	}
	n, err := in.nc.Read(p[:min(int64(len(p)), in.left)])
	in.left -= int64(n)
	return n, err
}

// grow lets a large header be read on, once: where there is room for it, twice
// over since it is copied, and for refusedTime.
func (in *input) grow() bool {
	if in.large {
		return false
	}
	var ok bool
	if in.release, ok = in.server.room(2 * maxHeaderBytes); !ok {
		in.release = nil
		return false
	}
	in.large, in.left = true, maxHeaderBytes-smallHeaderBytes
	return in.nc.SetReadDeadline(time.Now().Add(refusedTime)) == nil
}

// discard reads what is left of a body that nobody wants, and reports whether
// that was all. paid says that an invocation is what it is an answer to.
func (c *conn) discard(r *http.Request, paid bool) bool {
	if r.Body == http.NoBody {
		return true
	}
	c.proceed(r)
	if err := c.nc.SetReadDeadline(time.Now().Add(refusedTime)); err != nil {
		return false
	}
	for left := int64(maxDrainBytes); left > 0; left -= tokenBytes {
		n, err := io.CopyN(io.Discard, r.Body, tokenBytes)
		if err == io.EOF {
			return c.nc.SetReadDeadline(time.Time{}) == nil
		}
		if err != nil || n > 0 && !paid && !c.server.spend(1) {
			return false
		}
	}
	return false
}
