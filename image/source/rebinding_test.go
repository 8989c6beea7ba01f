// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	thaw "thaw.dev/thaw"
)

// nameServer answers each question for an A record with the next of its
// addresses, and then again with the last; it knows no other records.
type nameServer struct {
	conn    net.PacketConn
	answers []netip.Addr
	asked   atomic.Int32
}

func startNameServer(t *testing.T, answers ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn}
	for _, a := range answers {
		s.answers = append(s.answers, netip.MustParseAddr(a))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			if reply, err := s.reply(buf[:n]); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return s
}

func (s *nameServer) reply(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		i := min(int(s.asked.Add(1)), len(s.answers)) - 1
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
			Body:   &dnsmessage.AResource{A: s.answers[i].As4()},
		})
	}
	return m.Pack()
}

// resolver asks the name server and no other.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// TestRebinding: a name that stood for a public address when it was looked at
// and stands for loopback when it is connected to is refused, and what listens
// there hears nothing.
func TestRebinding(t *testing.T) {
	reached := atomic.Bool{}
	victim := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer victim.Close()
	_, port, err := net.SplitHostPort(victim.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	names := startNameServer(t, "8.8.8.8", "127.0.0.1")
	e := Egress{resolver: names.resolver()}

	// Whoever checks a name by itself, before it is used, sees a public address.
	first, err := e.resolver.LookupNetIP(t.Context(), "ip4", "rebind.example")
	if err != nil || len(first) != 1 || !isPublic(first[0]) {
		t.Fatalf("looked up %v, %v", first, err)
	}
	client := http.Client{Transport: e.transport()}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://rebind.example:"+port+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if thaw.KindOf(err) != thaw.Denied || err == nil || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("%v", err)
	}
	if reached.Load() {
		t.Error("loopback was asked")
	}
	if names.asked.Load() < 2 {
		t.Error("the connection did not look the name up: the test shows nothing")
	}

	// What the operator lists may be there.
	e.rules = []rule{{host: "rebind.example"}}
	conn, err := e.dial(t.Context(), "tcp", net.JoinHostPort("rebind.example", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// TestProxy: by a proxy go the requests for names, which it resolves, and for
// public addresses; an address of this network is refused here.
func TestProxy(t *testing.T) {
	var asked atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(&r.Host)
		w.WriteHeader(http.StatusTeapot)
	}))
	defer server.Close()
	proxy, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	by := http.ProxyURL(proxy)
	listed, err := ParseEgress([]string{"10.0.0.2:5000"})
	if err != nil {
		t.Fatal(err)
	}
	transport := &guarded{egress: listed, proxy: by, proxied: &http.Transport{Proxy: by}, direct: refuseAll{}}
	for host, proxied := range map[string]bool{
		"registry.example": true, "8.8.8.8:5000": true, "10.0.0.2:5000": true,
		"10.0.0.2:5001": false, "127.0.0.1:5000": false, "169.254.169.254": false, "[::1]:5000": false, "[::ffff:10.0.0.1]": false,
	} {
		asked.Store(nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if proxied && (err != nil || asked.Load() == nil || *asked.Load() != host) {
			t.Errorf("%s: the proxy was not asked for it: %v", host, err)
		}
		if !proxied && (thaw.KindOf(err) != thaw.Denied || err == nil || asked.Load() != nil) {
			t.Errorf("%s: %v, proxy asked %v", host, err, asked.Load() != nil)
		}
	}
}

// refuseAll stands for connections past the proxy, of which there are none.
type refuseAll struct{}

func (refuseAll) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("not by the proxy")
}
