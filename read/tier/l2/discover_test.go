// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"net"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"thaw.dev/thaw"
)

func TestParseDiscovery(t *testing.T) {
	d, err := ParseDiscovery("b:2, a:1,[::1]:3,a:1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Lookup(t.Context()); err != nil || !slices.Equal(got, []string{"[::1]:3", "a:1", "b:2"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "a", "a:", ":1", "a:b", "a:0", "a:65536", "a:1,", "srv+", "srv+a:1", "dns+a", "dns+", "dns+:1"} {
		if d, err := ParseDiscovery(bad); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%q: %+v, %v", bad, d, err)
		}
	}
}

// nameServer answers with what records returns, over UDP on loopback.
func nameServer(t *testing.T, records func(q dnsmessage.Question) []dnsmessage.Resource) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if m.Answers = records(m.Questions[0]); m.Answers == nil {
				m.RCode = dnsmessage.RCodeNameError
			}
			if out, err := m.Pack(); err == nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func TestLookup(t *testing.T) {
	head := func(q dnsmessage.Question) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	}
	resolver := nameServer(t, func(q dnsmessage.Question) []dnsmessage.Resource {
		switch {
		case q.Type == dnsmessage.TypeSRV && q.Name.String() == "_memcached._tcp.example.":
			target := func(name string, port uint16) dnsmessage.Resource {
				return dnsmessage.Resource{Header: head(q), Body: &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(name), Port: port}}
			}
			return []dnsmessage.Resource{target("cache2.example.", 11212), target("cache1.example.", 11211)}
		case q.Name.String() == "memcached.example." && q.Type == dnsmessage.TypeA:
			return []dnsmessage.Resource{
				{Header: head(q), Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 2}}},
				{Header: head(q), Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}},
			}
		case q.Name.String() == "memcached.example.":
			return []dnsmessage.Resource{} // it is there, without such an address
		}
		return nil
	})
	for spec, want := range map[string][]string{
		"srv+_memcached._tcp.example": {"cache1.example:11211", "cache2.example:11212"},
		"dns+memcached.example:11211": {"10.0.0.1:11211", "10.0.0.2:11211"},
		"srv+_nothing._tcp.example":   nil,
		"dns+nothing.example:1":       nil,
	} {
		d, err := ParseDiscovery(spec)
		if err != nil {
			t.Fatal(err)
		}
		d.Resolver = resolver
		got, err := d.Lookup(t.Context())
		if !slices.Equal(got, want) || (want == nil) != (thaw.KindOf(err) == thaw.Unavailable) {
			t.Errorf("%s: %v, %v", spec, got, err)
		}
	}
}
