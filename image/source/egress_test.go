// SPDX-License-Identifier: Apache-2.0

package source

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
)

func TestPublicAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "100.63.255.255": true, "172.32.0.1": true, "2606:4700::1111": true,
		"::ffff:8.8.8.8": true, "64:ff9b::8.8.8.8": true,

		"127.0.0.1": false, "127.1.2.3": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "100.127.255.255": false, "198.18.0.1": false, "192.0.2.1": false,
		"224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "ff02::1": false, "2001:db8::1": false,
		"::ffff:127.0.0.1": false, "::127.0.0.1": false, "64:ff9b::10.0.0.1": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, "2001::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: public %v", text, got)
		}
	}
	if isPublic(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestEgressRules(t *testing.T) {
	e, err := ParseEgress([]string{"Registry.corp", "http://plain.corp:5000", "*.example.com:443", "http://[::1]:80", "https://10.0.0.1/"})
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		host, port    string
		listed, plain bool
	}{
		{"registry.corp", "443", true, false},
		{"REGISTRY.corp.", "5000", true, false},
		{"plain.corp", "5000", true, true},
		{"plain.corp", "443", false, false},
		{"a.example.com", "443", true, false},
		{"a.b.example.com", "443", true, false},
		{"example.com", "443", false, false},
		{"evilexample.com", "443", false, false},
		{"::1", "80", true, true},
		{"10.0.0.1", "443", true, false},
		{"10.0.0.2", "443", false, false},
		{"registry.corp.evil", "443", false, false},
	} {
		if listed, plain := e.names(try.host, try.port, false), e.plain(net.JoinHostPort(try.host, try.port)); listed != try.listed || plain != try.plain {
			t.Errorf("%s:%s: listed %v, plain %v", try.host, try.port, listed, plain)
		}
	}
	all, err := ParseEgress([]string{"*"})
	if err != nil || !all.names("anything", "1", false) || all.names("anything", "80", true) {
		t.Errorf("*: %+v, %v", all, err)
	}
	for _, bad := range []string{"", "a b", "ftp://x", "x:port", "a/b", "*x", "**", "x:999999"} {
		if _, err := ParseEgress([]string{bad}); thaw.KindOf(err) != thaw.Invalid || err == nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestDial: the address of the connection counts, not the name it is asked
// for by, and a refusal names no address.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		_, err := Egress{}.dial(t.Context(), "tcp", host+":"+port)
		if thaw.KindOf(err) != thaw.Denied || err == nil || !strings.Contains(err.Error(), "--allow-registry "+host) {
			t.Errorf("%s: %v", host, err)
		}
		if host == "localhost" && strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("the refusal tells the address: %v", err)
		}
		e, err := ParseEgress([]string{host + ":" + port})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := e.dial(t.Context(), "tcp", host+":"+port)
		if err != nil {
			t.Errorf("%s, listed: %v", host, err)
			continue
		}
		_ = conn.Close()
	}
}

func TestRegistryHost(t *testing.T) {
	for text, want := range map[string]string{
		"docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "registry-1.docker.io": "docker.io",
		"GHCR.io": "ghcr.io", "http://127.0.0.1:5000/": "127.0.0.1:5000", "[::1]:5000": "[::1]:5000",
		"": "", "a b": "", "host/path": "", "user@host": "",
	} {
		if got, err := RegistryHost(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
