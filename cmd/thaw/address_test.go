// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// at is a listener of that address, which is not opened.
type at struct {
	net.Listener
	address string
}

// Addr resolves the address as a listener's is.
func (l at) Addr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", l.address)
	if err != nil {
		panic(err)
	}
	return a
}

// TestAddress: whatever a server listens on, clients are given an address that
// they can use, and the operator is told what is open.
func TestAddress(t *testing.T) {
	for _, row := range []struct {
		listen, endpoint string
		env              string // what thaw env says
		client           string // what a client is told that came to inside:9800
		warns            bool
	}{
		{"127.0.0.1:9800", "", "http://127.0.0.1:9800", "http://inside:9800", false},
		{"localhost:9800", "", "http://127.0.0.1:9800", "http://inside:9800", false},
		{"[::1]:9800", "", "http://[::1]:9800", "http://inside:9800", false},
		{":9800", "", "http://127.0.0.1:9800", "http://inside:9800", true},
		{"0.0.0.0:9800", "", "http://127.0.0.1:9800", "http://inside:9800", true},
		{"[::]:9800", "", "http://127.0.0.1:9800", "http://inside:9800", true},
		{"192.0.2.1:9800", "", "http://192.0.2.1:9800", "http://inside:9800", true},
		{":9800", "http://thaw.test:9800", "http://thaw.test:9800", "http://thaw.test:9800", true},
		{"127.0.0.1:9800", "https://Thaw.Test/", "https://thaw.test", "https://thaw.test", false},
		{"10.0.0.1:9800", "https://thaw.test:8443", "https://thaw.test:8443", "https://thaw.test:8443", false},
	} {
		a, err := newAddress(at{address: row.listen}, row.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		told := a.of(&http.Request{Host: "inside:9800"}).String()
		if got := a.endpoint(); got != row.env || told != row.client {
			t.Errorf("--listen %s --endpoint %q: thaw env says %s, a client is told %s", row.listen, row.endpoint, got, told)
		}
		var log bytes.Buffer
		a.warn(slog.New(slog.NewTextHandler(&log, nil)), at{address: "127.0.0.1:9801"})
		if warned := strings.Contains(log.String(), "without TLS"); warned != row.warns || strings.Count(log.String(), "\n") > 1 {
			t.Errorf("--listen %s --endpoint %q: the log says %q", row.listen, row.endpoint, log.String())
		}
	}
	for _, bad := range []string{"thaw.test", "ftp://thaw.test", "https://", "https://thaw.test/path", "https://u@thaw.test", "https://thaw.test?x=1", ":"} {
		if _, err := newAddress(at{address: "127.0.0.1:9800"}, bad); err == nil || !strings.Contains(err.Error(), "--endpoint") {
			t.Errorf("--endpoint %s: %v", bad, err)
		}
	}
}

func TestAddressHosts(t *testing.T) {
	for endpoint, want := range map[string][]string{
		"":                       {"127.0.0.1:9800"},
		"https://thaw.test":      {"127.0.0.1:9800", "thaw.test", "thaw.test:443"},
		"https://thaw.test:443":  {"127.0.0.1:9800", "thaw.test:443", "thaw.test"},
		"https://thaw.test:8443": {"127.0.0.1:9800", "thaw.test:8443"},
		"http://thaw.test":       {"127.0.0.1:9800", "thaw.test", "thaw.test:80"},
	} {
		a, err := newAddress(at{address: "127.0.0.1:9800"}, endpoint)
		if err != nil || !slices.Equal(a.hosts(), want) {
			t.Errorf("%q: %v %v", endpoint, a.hosts(), err)
		}
	}
}

// TestNoticesProxy: requests through a TLS proxy without --endpoint are told of
// once, and --admin-listen beyond loopback is.
func TestNoticesProxy(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	r := &http.Request{Host: "thaw.test", Header: http.Header{"X-Forwarded-Proto": {"https"}}}
	for endpoint, want := range map[string]int{"": 1, "https://thaw.test": 0} {
		log.Reset()
		a, err := newAddress(at{address: "127.0.0.1:9800"}, endpoint)
		if err != nil {
			t.Fatal(err)
		}
		a.noticeProxy(logger, r)
		a.noticeProxy(logger, r)
		if got := strings.Count(log.String(), "--endpoint https://HOST"); got != want {
			t.Errorf("--endpoint %q: told %d times: %s", endpoint, got, log.String())
		}
		log.Reset()
		a.warn(logger, at{address: "0.0.0.0:9801"})
		if !strings.Contains(log.String(), "without authentication") {
			t.Errorf("of --admin-listen beyond loopback: %q", log.String())
		}
	}
}
