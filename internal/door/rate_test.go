// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"thaw.dev/thaw"
)

// pipes is a listener without a network, whose clock is that of the test's bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return named("pipe") }

// bubble serves by a door within a test's bubble, to one client.
func bubble(t *testing.T, h http.HandlerFunc, do func(net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Name: "test", Connections: 8, PerAddress: 8})
		s := &http.Server{Handler: h}
		d.Guard(s)
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		go func() { _ = s.Serve(d.Listener(l)) }()
		here, there := net.Pipe()
		l.conns <- there
		do(here)
		_ = here.Close()
		_ = s.Close()
		synctest.Wait()
		if u := d.pool.Usage(); u.Held != 0 || len(d.strangers)+len(d.tenants)+d.known != 0 {
			t.Errorf("left over: %+v", u)
		}
	})
}

// sendSlowly sends a request's body, n bytes each second, and returns how long it
// took to its end or until the server had enough.
func sendSlowly(c net.Conn, n, seconds int) time.Duration {
	began := time.Now()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		return 0
	}
	for range seconds {
		if _, err := io.WriteString(c, "400\r\n"); err != nil {
			break
		}
		for range n >> 10 {
			if _, err := c.Write(make([]byte, 1<<10)); err != nil {
				return time.Since(began)
			}
			if _, err := io.WriteString(c, "\r\n400\r\n"); err != nil {
				return time.Since(began)
			}
		}
		if _, err := c.Write(append(make([]byte, 1<<10), "\r\n"...)); err != nil {
			break
		}
		time.Sleep(time.Second)
	}
	_, _ = io.WriteString(c, "0\r\n\r\n")
	return time.Since(began)
}

// TestLowestRate: a body that comes too slowly ends, as the client's fault; one
// that is slow but steady, and one for which the server takes its time, come whole.
func TestLowestRate(t *testing.T) {
	for _, try := range []struct {
		what       string
		rate       int           // bytes each second
		pause      time.Duration // of the server, between reads
		want       int64
		breaksWith thaw.Kind
	}{
		{"steady", 18 << 10, 0, 200 * 19 << 10, 0},
		{"a busy server", 2000 << 10, 7 * time.Second, 200 * 2001 << 10, 0},
		{"a trickle", 1 << 10, 0, 0, thaw.Canceled},
		{"nearly nothing", 0, 0, 0, thaw.Canceled},
	} {
		t.Run(try.what, func(t *testing.T) {
			var n int64
			var readErr error
			ended := make(chan bool, 1)
			bubble(t, func(_ http.ResponseWriter, r *http.Request) {
				buffer := make([]byte, 32<<10)
				for readErr == nil {
					var m int
					m, readErr = r.Body.Read(buffer)
					n += int64(m)
					if n%(1<<20) < 1<<10 {
						time.Sleep(try.pause)
					}
				}
				ended <- true
			}, func(c net.Conn) {
				sendSlowly(c, try.rate, 200)
				synctest.Wait()
			})
			<-ended
			if try.want > 0 && (!errors.Is(readErr, io.EOF) || n != try.want) {
				t.Errorf("%d bytes of %d, and %v", n, try.want, readErr)
			}
			if try.want == 0 && thaw.KindOf(readErr) != try.breaksWith {
				t.Errorf("it ended with %v after %d bytes", readErr, n)
			}
		})
	}
}

// TestNothingIsWaitedForLong: whatever a client does not send or take, the
// server goes on without it.
func TestNothingIsWaitedForLong(t *testing.T) {
	const most = 2*Window + headerTime
	for _, try := range []struct{ what, sends string }{
		{"nothing", ""},
		{"half a header", "GET / HTTP/1.1\r\nHost: x\r\nX: "},
		{"no body, which is read", "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"},
		{"no body, which nobody reads", "POST /leave HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"},
		{"a request, whose answer it does not take", "GET /much HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(try.what, func(t *testing.T) {
			bubble(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/read":
					_, _ = io.Copy(io.Discard, r.Body)
				case "/much":
					_, _ = w.Write(make([]byte, 100<<10))
				}
			}, func(c net.Conn) {
				began := time.Now()
				if _, err := io.WriteString(c, try.sends); err != nil {
					t.Error(err)
				}
				if try.what == "a request, whose answer it does not take" {
					time.Sleep(most)
				}
				_, _ = io.Copy(io.Discard, c)
				if took := time.Since(began); took > most {
					t.Errorf("it ended after %s of the bubble's clock", took)
				}
			})
		})
	}
}

// TestFileGoesOutWhole: a file is sent by the kernel, in pieces, as it is.
func TestFileGoesOutWhole(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 100<<10) // several pieces
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, to := serve(t, Options{Connections: 8, PerAddress: 8}, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	for _, part := range []struct {
		header string
		want   []byte
	}{{"", data}, {"bytes=1000000-1600000", data[1_000_000:1_600_001]}, {"bytes=-17", data[len(data)-17:]}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+to+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if part.header != "" {
			r.Header.Set("Range", part.header)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || !bytes.Equal(got, part.want) {
			t.Errorf("range %q: %d bytes of %d, %v", part.header, len(got), len(part.want), err)
		}
	}
}
