// SPDX-License-Identifier: Apache-2.0

package door

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"thaw.dev/thaw"
)

// restTime is how long is waited for the rest of a body that nobody wants, so
// that the client reads the answer.
const restTime = 5 * time.Second

// guarded is a handler whose requests' bodies come at the lowest rate.
type guarded struct{ handler http.Handler }

// ServeHTTP serves a request of a connection that came through the door.
func (g guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := of(r.Context())
	if c == nil {
		g.handler.ServeHTTP(w, r)
		return
	}
	if r.ProtoMajor != 1 { // net/http passes on the preface of HTTP/2
		http.Error(w, "this server speaks HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	c.whole.Store(true) // also where it came with the one before
	if r.Body == nil || r.Body == http.NoBody {
		c.work(true)
		g.handler.ServeHTTP(w, r)
		return
	}
	b := &body{ReadCloser: r.Body, conn: c, left: Window}
	_ = c.SetReadDeadline(time.Now().Add(Window)) // of a handler that answers without it
	r.Body = b
	g.handler.ServeHTTP(w, r)
	if !b.ended {
		_ = c.SetReadDeadline(time.Now().Add(restTime))
	}
}

// body fails where it comes more slowly than the lowest rate.
type body struct {
	io.ReadCloser
	conn  *conn
	left  time.Duration // of the window
	got   int           // in the window
	ended bool
}

// Read counts the time in which it waits for the client.
func (b *body) Read(p []byte) (int, error) {
	if b.ended {
		return b.ReadCloser.Read(p)
	}
	began := time.Now()
	_ = b.conn.SetReadDeadline(began.Add(b.left))
	n, err := b.ReadCloser.Read(p)
	if b.got += n; b.got >= windowBytes {
		b.got, b.left = 0, Window
	} else {
		b.left -= time.Since(began)
	}
	if err == nil {
		return n, nil
	}
	b.ended = true // net/http has taken the deadline off
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, thaw.Errorf("read body", thaw.Canceled, "it came at less than %d bytes in %s", windowBytes, Window)
	}
	b.conn.work(true)
	return n, err
}
