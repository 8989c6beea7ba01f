// SPDX-License-Identifier: Apache-2.0

package door

import (
	"container/list"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// conn is one connection. Reads and writes are each done by one goroutine at a
// time, as net/http does.
type conn struct {
	net.Conn
	door    *Door
	address string
	release func()

	lines  int         // of the header that is being read
	length int         // of its last line, without the end
	whole  atomic.Bool // the header has ended, and lines and length are at rest

	// Of each request, and so without the lock, for which strangers could have
	// clients wait.
	waiting atomic.Int64 // for its client, since this time of Unix in ns; or busy
	knownAs atomic.Pointer[string]

	// Guarded by door.mu.
	tenant string // "" is a stranger
	closed bool
	place  *list.Element
}

// busy is a connection that the server works for.
const busy = 0

// work notes whether the server works for the connection or waits for its client.
func (c *conn) work(on bool) {
	since := int64(busy)
	if !on {
		since = time.Now().UnixNano()
	}
	c.waiting.Store(since)
}

// tooManyLines is the answer to a header of too many lines.
const tooManyLines = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"431 Request Header Fields Too Large"

var errLines = errors.New("a header of too many lines")

// Read counts the lines of a header.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.whole.Load() && !c.header(p[:n]) {
		c.refuse()
		return 0, errLines
	}
	return n, err
}

// refuse answers a header of too many lines, and takes some of the rest of it so
// that its sender reads the answer.
func (c *conn) refuse() {
	_, _ = c.Write([]byte(tooManyLines))
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c.Conn, MaxHeaderBytes) // an error is the end as well
}

// header takes the next bytes of a header and what follows it, and reports
// whether it may go on.
func (c *conn) header(p []byte) bool {
	for _, b := range p {
		switch b {
		case '\n':
			if c.lines++; c.lines > maxHeaderLines {
				return false
			}
			if c.length == 0 && c.lines > 1 {
				c.whole.Store(true)
				return true
			}
			c.length = 0
		case '\r':
		default:
			c.length++
		}
	}
	return true
}

// next begins a request: the header that is read from now on is a new one.
// Nothing reads while it is called.
func (c *conn) next() {
	c.lines, c.length = 0, 0
	c.whole.Store(false)
	c.work(false)
}

// Write fails where the client does not take what it asked for at the lowest rate.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.allow(int64(len(p))); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// allow sets the time in which n bytes must go out.
func (c *conn) allow(n int64) error {
	return c.SetWriteDeadline(time.Now().Add(Window + time.Duration(n)*Window/windowBytes))
}

// ReadFrom is Write for a file that the kernel sends by itself, in pieces.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	to, ok := c.Conn.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	left := int64(1<<63 - 1)
	limit, limited := r.(*io.LimitedReader)
	if limited {
		r, left = limit.R, limit.N
	}
	var done int64
	for left > 0 {
		piece := &io.LimitedReader{R: r, N: min(left, windowBytes)}
		if err := c.allow(piece.N); err != nil {
			return done, err
		}
		n, err := to.ReadFrom(piece)
		done += n
		left -= n
		if limited {
			limit.N = left
		}
		if err != nil || piece.N > 0 {
			return done, err
		}
	}
	return done, nil
}

// CloseWrite tells the client that nothing more comes.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection and gives its room back.
func (c *conn) Close() error {
	c.door.mu.Lock()
	gone := c.closed
	if !gone {
		c.closed = true
		c.door.leave(c)
	}
	c.door.mu.Unlock()
	if gone {
		return net.ErrClosed
	}
	err := c.Conn.Close()
	c.release()
	return err
}

// evict closes the connection without waiting for its client.
func (c *conn) evict() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what is not sent yet is not kept
	}
	_ = c.Close() // perhaps it has ended by itself
}
