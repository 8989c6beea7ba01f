// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// serve serves by a door on the loopback: a request that names a tenant is that
// tenant's, proven.
func serve(t *testing.T, o Options, h http.HandlerFunc) (*Door, string) {
	t.Helper()
	o.Name = "test"
	d := New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tenant := r.Header.Get("Tenant"); tenant != "" {
			Known(r.Context(), tenant)
		}
		h(w, r)
	})}
	d.Guard(s)
	go func() { _ = s.Serve(d.Listener(l)) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, l.Addr().String()
}

// client is one connection.
type client struct {
	net.Conn
	in *bufio.Reader
}

// dial comes from an address of the loopback.
func dial(t *testing.T, from, to string) *client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{c, bufio.NewReader(c)}
}

// ask sends one request and returns the answer's status, 0 where the connection
// ends without one.
func (c *client) ask(header string) int {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n"); err != nil {
		return 0
	}
	return c.status()
}

func (c *client) status() int {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0
	}
	return resp.StatusCode
}

// ended waits until the server has closed the connection.
func (c *client) ended() {
	_, _ = io.Copy(io.Discard, c.in)
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }

// TestStrangersMakeRoom: strangers that fill the house, of one address or of
// many, take room from one another; whoever is known, and whoever comes, is served.
func TestStrangersMakeRoom(t *testing.T) {
	for _, addresses := range []int{1, 5} {
		t.Run(fmt.Sprint(addresses), func(t *testing.T) {
			d, to := serve(t, Options{Connections: 32, PerAddress: 16}, ok)
			known := dial(t, "127.0.0.1", to)
			if got := known.ask("Tenant: a\r\n"); got != 200 {
				t.Fatal(got)
			}
			// They share the address of the known one, too.
			var strangers []*client
			for i := range 100 {
				strangers = append(strangers, dial(t, fmt.Sprint("127.0.0.", 1+i%addresses), to))
			}
			strangers[0].ended()
			for i, from := range []string{"127.0.0.1", "127.0.0.99"} {
				if got := dial(t, from, to).ask(""); got != 200 {
					t.Errorf("newcomer %d: %d", i, got)
				}
			}
			if got := known.ask("Tenant: a\r\n"); got != 200 {
				t.Errorf("the known one: %d", got)
			}
			if u := d.pool.Usage(); u.Held > 32 || u.Held < 16 {
				t.Errorf("%d connections", u.Held)
			}
		})
	}
}

// TestBusyStrangersStay: a stranger whom the server is at work for gives way
// after those that wait.
func TestBusyStrangersStay(t *testing.T) {
	began, end := make(chan bool), make(chan bool)
	_, to := serve(t, Options{Connections: 16, PerAddress: 16}, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wait") != "" {
			began <- true
			<-end
		}
	})
	busy := dial(t, "127.0.0.1", to)
	answer := make(chan int)
	go func() { answer <- busy.ask("Wait: 1\r\n") }()
	<-began
	var last *client
	for range 50 {
		last = dial(t, "127.0.0.1", to)
	}
	if got := last.ask(""); got != 200 {
		t.Errorf("the last: %d", got)
	}
	close(end)
	if got := <-answer; got != 200 {
		t.Errorf("the busy one: %d", got)
	}
}

// TestTenantWithMostMakesRoom: where tenants have all connections, an idle one of
// the tenant with most makes room, and a stranger always finds some.
func TestTenantWithMostMakesRoom(t *testing.T) {
	d, to := serve(t, Options{Connections: 16, PerAddress: 16}, ok)
	small := dial(t, "127.0.0.1", to)
	if got := small.ask("Tenant: small\r\n"); got != 200 {
		t.Fatal(got)
	}
	var large []*client
	for i := range 20 {
		c := dial(t, "127.0.0.1", to)
		if got := c.ask("Tenant: large\r\n"); got != 200 {
			t.Fatalf("connection %d: %d", i, got)
		}
		large = append(large, c)
	}
	large[0].ended()
	if got := dial(t, "127.0.0.1", to).ask(""); got != 200 {
		t.Errorf("a stranger: %d", got)
	}
	if got := small.ask("Tenant: small\r\n"); got != 200 {
		t.Errorf("the tenant with one connection: %d", got)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known > d.mostKnown {
		t.Errorf("%d connections of tenants", d.known)
	}
}

// TestFullHouse: who can't be let in is told so at once, and let in again when
// there is room.
func TestFullHouse(t *testing.T) {
	began, end := make(chan bool), make(chan bool)
	d, to := serve(t, Options{Connections: 16, PerAddress: 4}, func(http.ResponseWriter, *http.Request) {
		began <- true
		<-end
	})
	answers := make(chan int)
	for range 4 {
		c := dial(t, "127.0.0.1", to)
		go func() { answers <- c.ask("Tenant: a\r\n") }()
		<-began
	}
	if got := dial(t, "127.0.0.1", to).status(); got != 503 {
		t.Errorf("a fifth of the address: %d, want 503", got)
	}
	go func() { <-began }()
	close(end)
	for range 4 {
		if got := <-answers; got != 200 {
			t.Errorf("a known one: %d", got)
		}
	}
	if got := dial(t, "127.0.0.1", to).ask(""); got != 200 {
		t.Errorf("then: %d", got)
	}
	if u := d.pool.Usage(); u.Refused == 0 {
		t.Error("no refusal was counted")
	}
}

// TestHeaderBounds: a header has at most 32 KiB and 256 lines, each request's
// anew; the lines of bodies do not count.
func TestHeaderBounds(t *testing.T) {
	_, to := serve(t, Options{Connections: 16, PerAddress: 16}, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, n)
	})
	lines := func(n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "A%d:\r\n", i)
		}
		return text.String()
	}
	for _, try := range []struct {
		what, header string
		status       int
	}{
		{"a large header", "X: " + strings.Repeat("x", 27<<10) + "\r\n", 200},
		{"a too large one", "X: " + strings.Repeat("x", MaxHeaderBytes) + "\r\n", 431},
		{"many lines", lines(250), 200},
		{"too many", lines(1000), 431},
	} {
		if got := dial(t, "127.0.0.1", to).ask(try.header); got != try.status {
			t.Errorf("%s: %d, want %d", try.what, got, try.status)
		}
	}
	newlines := strings.Repeat("\n", 5000)
	for i := range 5 { // two at once, so that one comes with the other
		text := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n" + lines(150) + "\r\n" + newlines
		c := dial(t, "127.0.0.1", to)
		if _, err := io.WriteString(c, text+text); err != nil {
			t.Fatal(err)
		}
		if a, b := c.status(), c.status(); a != 200 || b != 200 {
			t.Errorf("pair %d: %d, %d", i, a, b)
		}
	}
}

// TestHTTP2IsNotSpoken: its preface, which needs no TLS, is refused, and no frame
// after it is read.
func TestHTTP2IsNotSpoken(t *testing.T) {
	_, to := serve(t, Options{Connections: 16, PerAddress: 16}, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Error("it was served")
		}
	})
	c := dial(t, "127.0.0.1", to)
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	if got := c.status(); got != http.StatusHTTPVersionNotSupported {
		t.Errorf("status %d", got)
	}
	c.ended()
	if got := dial(t, "127.0.0.1", to).ask("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nX-Any: 1\r\n"); got == http.StatusSwitchingProtocols {
		t.Errorf("it was upgraded")
	}
}

// TestAddresses: clients are counted by what one client has one of.
func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7", "[::ffff:192.0.2.7]:2": "192.0.2.7", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::", "[fe80::1%eth0]:6": "fe80::",
		"@": "@",
	} {
		if got := addressOf(named(address)); got != want {
			t.Errorf("%s is counted as %s, not %s", address, got, want)
		}
	}
	if Address(context.Background()) != "" {
		t.Error("an address of nothing")
	}
	Known(context.Background(), "a") // does nothing
}

type named string

func (named) Network() string  { return "tcp" }
func (n named) String() string { return string(n) }
