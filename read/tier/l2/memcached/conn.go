// SPDX-License-Identifier: Apache-2.0

// Package memcached is a client's connection to one memcached server, for the
// zone cache: many requests under way at a time, answers in their order, and the
// bytes of a value read to where they are wanted. It speaks the meta commands
// of memcached 1.6 and knows nothing of chunks, of other servers or of retries.
//
// Nobody waits for the network to ask: a request is queued, and whoever finds
// the connection free writes what has been queued meanwhile in one go. One
// goroutine reads the answers. A request that is not answered in time ends the
// connection, since what comes after it can't be told from it; so all requests
// end, and the ones behind a stuck answer do not wait longer than it.
package memcached

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"thaw.dev/thaw"
)

// HeadBytes is the length of what a [Taker] sees of a value before it says
// where the rest goes.
const HeadBytes = 8

// Outcome says how a request ended.
type Outcome int

// The outcomes.
const (
	Hit    Outcome = iota // the whole value was received
	Miss                  // the server does not have it
	Failed                // no answer in time, or none that makes sense
)

// Taker takes the answer of one get. Its methods are called by the goroutine
// that reads the connection, or by the caller of Get, and must not block.
type Taker interface {
	// Begin is told the first HeadBytes of a value, or all if it is shorter,
	// and its length. It returns where the rest goes, of exactly that length; or
	// nil, and the rest is discarded. head is valid during the call.
	Begin(head []byte, valueBytes int) []byte

	// End is called once for each request, last. After a Hit what Begin returned
	// is filled; after anything else it is not used any more.
	End(o Outcome, took time.Duration)
}

// Options make a [Conn].
type Options struct {
	Address       string        // host:port
	Timeout       time.Duration // for connecting, and for each answer
	MaxInFlight   int           // requests under way; more fail at once
	MaxValueBytes int           // longer values end the connection
}

// errBusy ends a request that finds MaxInFlight before it.
var errBusy = errors.New("too many requests are under way")

// Conn is a connection. Use [Open]. It is safe for concurrent use.
type Conn struct {
	opts   Options
	cancel context.CancelFunc // ends the connecting
	done   chan struct{}      // closed when the reader has ended

	mu      sync.Mutex
	nc      net.Conn // nil until connected
	queue   []request
	out     []byte // queued and not written yet
	spare   []byte // the buffer that out and the writer swap
	writing bool   // somebody writes, or the connection is being made
	err     error  // why it ended
}

// request is what waits for an answer: a get, or a command with a line for
// answer.
type request struct {
	taker Taker
	reply chan<- reply
	sent  time.Time
}

type reply struct {
	line  string   // the last line
	stats []string // the lines before it
	err   error
}

func (r request) end(o Outcome, err error) {
	if r.taker != nil {
		r.taker.End(o, time.Since(r.sent))
		return
	}
	r.reply <- reply{err: err} // has room for it
}

// Open begins to connect and returns; requests may be made at once. The caller
// closes the connection, also after it has ended by itself.
func Open(o Options) *Conn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Conn{opts: o, cancel: cancel, done: make(chan struct{}), writing: true}
	go c.run(ctx) // ends with Close, or when the server fails; Close waits for it
	return c
}

// Err says why the connection has ended; nil while it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// InFlight is the number of requests under way.
func (c *Conn) InFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// Close ends the connection, and with it all requests under way, and waits for
// its goroutine.
func (c *Conn) Close() {
	c.fail(net.ErrClosed)
	c.cancel()
	<-c.done
}

// Get asks for a value. The answer goes to t, possibly before Get returns.
func (c *Conn) Get(key string, t Taker) {
	c.send(request{taker: t, sent: time.Now()}, command{verb: "mg ", key: key, suffix: " v\r\n"})
}

// Set stores a value made of two parts, and waits for the answer. The parts may
// be reused afterwards. Errors: [thaw.Unavailable] where no answer came,
// [thaw.TooLarge] and [thaw.Internal] where the server refuses.
func (c *Conn) Set(ctx context.Context, key string, head, body []byte) error {
	op := "memcached: set at " + c.opts.Address
	r, err := c.do(ctx, op, command{"ms ", key, setSuffix(len(head) + len(body)), [][]byte{head, body, crlf}})
	if err != nil {
		return err
	}
	return refusal(op, r.line, "HD")
}

// FlushAll makes the server forget all that it holds.
func (c *Conn) FlushAll(ctx context.Context) error {
	op := "memcached: flush " + c.opts.Address
	r, err := c.do(ctx, op, command{verb: "flush_all", suffix: "\r\n"})
	if err != nil {
		return err
	}
	return refusal(op, r.line, "OK")
}

// Stats returns what the server tells of itself, by memcached's names.
func (c *Conn) Stats(ctx context.Context) (map[string]string, error) {
	op := "memcached: stats of " + c.opts.Address
	r, err := c.do(ctx, op, command{verb: "stats", suffix: "\r\n"})
	if err == nil {
		err = refusal(op, r.line, "END")
	}
	if err != nil {
		return nil, err
	}
	return parseStats(r.stats), nil
}

// command is what goes out: a line of three parts, and what follows it.
type command struct {
	verb, key, suffix string
	data              [][]byte
}

// do sends a command and waits for its answer.
func (c *Conn) do(ctx context.Context, op string, cmd command) (reply, error) {
	answer := make(chan reply, 1)
	c.send(request{reply: answer, sent: time.Now()}, cmd)
	select {
	case r := <-answer:
		if r.err != nil {
			return r, thaw.Errorf(op, thaw.Unavailable, "%w", r.err)
		}
		return r, nil
	case <-ctx.Done():
		return reply{}, thaw.Wrap(op, context.Cause(ctx))
	}
}

// send queues a request and writes, unless somebody does already.
func (c *Conn) send(r request, cmd command) {
	c.mu.Lock()
	if c.err != nil || len(c.queue) >= c.opts.MaxInFlight {
		err := c.err
		c.mu.Unlock()
		if err == nil {
			err = errBusy
		}
		r.end(Failed, err)
		return
	}
	c.queue = append(c.queue, r)
	c.out = append(append(append(c.out, cmd.verb...), cmd.key...), cmd.suffix...)
	for _, d := range cmd.data {
		c.out = append(c.out, d...)
	}
	if len(c.queue) == 1 && c.nc != nil {
		c.setDeadlineLocked()
	}
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.writeLocked()
	c.mu.Unlock()
}

// writeLocked writes until nothing is queued. It gives up the lock while it
// writes; c.writing, which the caller has set, keeps others from doing so.
func (c *Conn) writeLocked() {
	for c.err == nil && len(c.out) > 0 {
		out := c.out
		c.out = c.spare[:0]
		c.spare = nil
		c.mu.Unlock()
		_, err := c.nc.Write(out)
		if err != nil {
			c.fail(err)
		}
		c.mu.Lock()
		if cap(out) <= maxSpare {
			c.spare = out
		}
	}
	c.writing = false
}

// maxSpare bounds the buffer that is kept for the next write.
const maxSpare = 128 << 10

// setDeadlineLocked bounds the wait for the answer that is next.
func (c *Conn) setDeadlineLocked() {
	var t time.Time
	if len(c.queue) > 0 {
		t = c.queue[0].sent.Add(c.opts.Timeout)
	}
	_ = c.nc.SetReadDeadline(t) // fails on a closed connection only, which the reader sees too
}

// run connects, writes what was queued meanwhile, reads until the end, and ends
// what is still under way then. It alone ends requests once they are queued, so
// nothing is written to a taker's memory after its End.
func (c *Conn) run(ctx context.Context) {
	defer close(c.done)
	err := c.connect(ctx)
	c.cancel()
	if err == nil {
		r := bufio.NewReaderSize(c.nc, readerBytes)
		for err == nil {
			err = c.answer(r)
		}
	}
	c.fail(err)
	c.mu.Lock()
	queue, err := c.queue, c.err
	c.queue, c.out = nil, nil
	c.mu.Unlock()
	for _, r := range queue {
		r.end(Failed, err)
	}
}

func (c *Conn) connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: c.opts.Timeout}
	nc, err := dialer.DialContext(ctx, "tcp", c.opts.Address)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil { // closed meanwhile
		return errors.Join(c.err, nc.Close())
	}
	c.nc = nc
	now := time.Now()
	for i := range c.queue {
		c.queue[i].sent = now
	}
	c.setDeadlineLocked()
	c.writeLocked()
	return nil
}

// readerBytes holds a stripe with the line before it and its end, which then take
// one read of the socket. To copy it once more costs less than the three reads it
// takes otherwise (BenchmarkGet of package l2).
const readerBytes = 72 << 10

// fail ends the connection, for the first reason that is given. The reader
// notices, and ends what is under way.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.nc != nil {
		_ = c.nc.Close() // nothing is lost: what was not answered has failed
	}
}

// head returns the request that the next answer is for.
func (c *Conn) head() (request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return request{}, c.err
	}
	if len(c.queue) == 0 {
		return request{}, errUnasked
	}
	return c.queue[0], nil
}

// pop removes the request that was answered. On an error it is still there, for
// run to end.
func (c *Conn) pop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.queue[0] = request{}
	c.queue = c.queue[1:]
	c.setDeadlineLocked()
	return nil
}

// answer reads one answer and ends its request.
func (c *Conn) answer(r *bufio.Reader) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	req, err := c.head()
	if err != nil {
		return err
	}
	if req.taker != nil {
		outcome, err := c.value(r, line, req.taker)
		if err == nil {
			err = c.pop()
		}
		if err != nil {
			return err // run ends the request
		}
		req.taker.End(outcome, time.Since(req.sent))
		return nil
	}
	full, err := readReply(r, line)
	if err == nil {
		err = c.pop()
	}
	if err != nil {
		return err
	}
	req.reply <- full
	return nil
}

// value reads the rest of a get's answer.
func (c *Conn) value(r *bufio.Reader, line []byte, t Taker) (Outcome, error) {
	size, outcome, err := parseValueLine(line)
	if err != nil || outcome != Hit {
		return outcome, err
	}
	if size > c.opts.MaxValueBytes {
		return Failed, errTooLong
	}
	head, err := r.Peek(min(size, HeadBytes))
	if err != nil {
		return Failed, err
	}
	rest := size - len(head)
	dst := t.Begin(head, size)
	if _, err := r.Discard(len(head)); err != nil {
		return Failed, err
	}
	if dst == nil {
		err = discard(r, rest)
	} else {
		_, err = io.ReadFull(r, dst[:rest])
	}
	if err != nil {
		return Failed, err
	}
	return Hit, readCRLF(r)
}
