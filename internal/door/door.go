// SPDX-License-Identifier: Apache-2.0

// Package door bounds what a stranger may take of a server before anybody knows
// who it is: connections, the memory of headers, and time.
//
// A connection is a stranger's until a request on it was verified, see [Known].
// Where there is no room for another, one that waits for its client makes room:
// a stranger's first, of the address that has most. So a flood of strangers
// takes room from strangers, above all from itself, and never from tenants who
// are served; and of tenants the one with most connections gives way.
//
// Whoever sends a body or takes an answer must keep a lowest rate. The time that
// the server itself takes does not count.
package door

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"thaw.dev/thaw/internal/fair"
)

const (
	// MaxHeaderBytes bounds a request's line and header, as servers at AWS do.
	MaxHeaderBytes = 32 << 10

	// maxHeaderLines bounds what a header takes in memory, where each short
	// line takes many times its length.
	maxHeaderLines = 256

	// headerTime is how long a header may take, from its first byte or, of the
	// first request, from the connection's beginning.
	headerTime = 10 * time.Second

	// idleTime is how long a connection is kept between two requests.
	idleTime = 5 * time.Minute

	// A body or an answer moves on by windowBytes within each Window, which
	// makes a lowest rate of 16 KiB/s that a short stall does not fail.
	windowBytes = 16 << 10 * 30

	// Window is how long a client may stall.
	Window = 30 * time.Second
)

// Options say how many connections there may be.
type Options struct {
	Name        string // of the pool, in metrics
	Connections int    // at once, of all addresses; at least 8
	PerAddress  int    // of one address: an IPv4 address, or an IPv6 network of 64 bits
}

// Door is before one listener. It is safe for concurrent use.
type Door struct {
	pool      *fair.Pool
	mostKnown int // connections of tenants, so that strangers always find some

	mu        sync.Mutex // guards what follows
	strangers crowd      // by address
	tenants   crowd      // by tenant
	known     int        // connections in tenants
}

// New returns a door.
func New(o Options) *Door {
	return &Door{
		pool:      fair.New(fair.Options{Name: o.Name, Size: int64(o.Connections), PerOwner: int64(o.PerAddress)}),
		mostKnown: o.Connections - o.Connections/8,
		strangers: crowd{}, tenants: crowd{},
	}
}

// Pools returns what clients share here.
func (d *Door) Pools() []*fair.Pool { return []*fair.Pool{d.pool} }

// Guard has a server serve by this door: its handler and its limits of time and
// size. The server then serves [Door.Listener] only.
func (d *Door) Guard(s *http.Server) {
	// net/http reads 4 KiB more than it is told.
	s.MaxHeaderBytes = MaxHeaderBytes - 4<<10
	s.ReadHeaderTimeout, s.IdleTimeout = headerTime, idleTime
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if c, ok := c.(*conn); ok && state == http.StateIdle {
			c.next()
		}
	}
	s.Handler = guarded{s.Handler}
}

// Listener returns l without the connections for which there is no room.
func (d *Door) Listener(l net.Listener) net.Listener { return &listener{l, d} }

type key struct{}

// of returns the connection of a request, or nil.
func of(ctx context.Context) *conn {
	c, _ := ctx.Value(key{}).(*conn)
	return c
}

// Known says that the request of ctx is a tenant's, proven.
func Known(ctx context.Context, tenant string) {
	if c := of(ctx); c != nil {
		c.door.know(c, tenant)
	}
}

// Address is where the request of ctx comes from, as connections are counted; ""
// where it did not come through a door.
func Address(ctx context.Context) string {
	if c := of(ctx); c != nil {
		return c.address
	}
	return ""
}

type listener struct {
	net.Listener
	door *Door
}

// full is the answer to who can't be let in. Clients of every surface know the
// status.
const full = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nRetry-After: 1\r\n\r\n" +
	"there are too many connections, or too many of your address: close some, or try again\n"

// Accept returns the next connection that there is room for. It never waits for
// room: who can't be let in is told so at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.door.admit(raw); c != nil {
			return c, nil
		}
		_ = raw.SetWriteDeadline(time.Now().Add(time.Millisecond)) // the buffer of a new connection is empty
		_, _ = raw.Write([]byte(full))
		_ = raw.Close()
	}
}

// admit returns nil where nobody makes room.
func (d *Door) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw, door: d, address: addressOf(raw.RemoteAddr())}
	c.work(false)
	release, ok := d.pool.TryAcquire(c.address, 1)
	if !ok && d.makeRoom(c.address) {
		release, ok = d.pool.TryAcquire(c.address, 1)
	}
	if !ok {
		return nil
	}
	c.release = release
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strangers.add(c.address, c)
	return c
}

// makeRoom closes a connection so that one more of that address fits.
func (d *Door) makeRoom(address string) bool {
	d.mu.Lock()
	var c *conn
	if u := d.pool.Usage(); u.Held >= u.Size {
		if c = firstOfAll(d.strangers.largest()); c == nil {
			c = d.tenants.most("")
		}
	} else if c = firstOfAll(d.strangers[address]); c == nil {
		c = d.tenants.most(address)
	}
	d.mu.Unlock()
	if c == nil {
		return false
	}
	c.evict()
	return true
}

// know moves a connection to those of a tenant.
func (d *Door) know(c *conn, tenant string) {
	if now := c.knownAs.Load(); now != nil && *now == tenant {
		return
	}
	d.mu.Lock()
	if c.closed || c.tenant == tenant {
		d.mu.Unlock()
		return
	}
	d.leave(c)
	c.tenant = tenant
	c.knownAs.Store(&tenant)
	d.tenants.add(tenant, c)
	d.known++
	var over *conn
	if d.known > d.mostKnown {
		over = d.tenants.most("")
	}
	d.mu.Unlock()
	if over != nil {
		over.evict()
	}
}

// leave takes a connection out of its crowd; d.mu is held.
func (d *Door) leave(c *conn) {
	if c.tenant == "" {
		d.strangers.remove(c.address, c)
		return
	}
	d.tenants.remove(c.tenant, c)
	d.known--
}

// addressOf is the owner of a connection: an IPv6 client has 2^64 addresses.
func addressOf(a net.Addr) string {
	port, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := port.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return ip.String()
	}
	return prefix.Masked().Addr().String()
}
