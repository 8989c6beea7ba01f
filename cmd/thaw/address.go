// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"thaw.dev/thaw"
)

// address is where the server listens and what clients call it. Every address
// that a client is told comes from here.
type address struct {
	listen  *net.TCPAddr
	outside *url.URL // --endpoint; nil where clients use the address that they reach

	warned sync.Once // of a proxy that --endpoint does not name
}

// newAddress is the address of a listener; outside is --endpoint, or empty.
func newAddress(listener net.Listener, outside string) (*address, error) {
	listen, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil, thaw.Errorf("serve", thaw.Internal, "a listener at %v", listener.Addr())
	}
	a := &address{listen: listen}
	if outside == "" {
		return a, nil
	}
	if err := (endpoint{url: outside, name: "--endpoint"}).check(); err != nil {
		return nil, err
	}
	u, err := url.Parse(outside)
	if err != nil {
		return nil, thaw.Errorf("serve", thaw.Invalid, "--endpoint: %w", err)
	}
	a.outside = &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
	return a, nil
}

// local is the URL of the server on this machine, if not also elsewhere: a
// server that listens on every address is reached on the loopback.
func (a *address) local() *url.URL {
	ip := a.listen.IP
	if ip == nil || ip.IsUnspecified() {
		ip = net.IPv4(127, 0, 0, 1)
	}
	return &url.URL{Scheme: "http", Host: (&net.TCPAddr{IP: ip, Port: a.listen.Port, Zone: a.listen.Zone}).String()}
}

// endpoint is the URL that clients are given.
func (a *address) endpoint() string {
	if a.outside != nil {
		return a.outside.String()
	}
	return a.local().String()
}

// of is the URL of the server for the client of a request: without --endpoint
// the one that the client used, which is surely one that it can reach.
func (a *address) of(r *http.Request) *url.URL {
	switch {
	case a.outside != nil:
		return a.outside
	case r.Host == "":
		return a.local()
	}
	return &url.URL{Scheme: "http", Host: r.Host}
}

// hosts are the names, HOST or HOST:PORT, that mean this server.
func (a *address) hosts() []string {
	names := []string{a.listen.String()}
	if a.outside == nil {
		return names
	}
	standard := map[string]string{"http": "80", "https": "443"}[a.outside.Scheme]
	names = append(names, a.outside.Host)
	switch a.outside.Port() {
	case "":
		names = append(names, net.JoinHostPort(a.outside.Hostname(), standard))
	case standard:
		names = append(names, strings.TrimSuffix(a.outside.Host, ":"+standard))
	}
	return names
}

// secure reports whether clients are told to come by TLS.
func (a *address) secure() bool { return a.outside != nil && a.outside.Scheme == "https" }

// warn says what is open to whoever reaches this machine.
func (a *address) warn(log *slog.Logger, admin net.Listener) {
	if !a.listen.IP.IsLoopback() && !a.secure() {
		log.Warn("the API and the registry are reachable from other machines, without TLS: payloads, images and logins can be read on the way. "+
			"Listen on 127.0.0.1 behind a TLS proxy, and name it with --endpoint https://HOST (docs/proxy.md)", "listen", a.listen)
	}
	if admin == nil {
		return
	}
	if at, ok := admin.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		log.Warn("metrics are reachable from other machines, without authentication (--admin-listen)", "listen", at)
	}
}

// noticeProxy tells the operator, once, that requests come through a TLS proxy of
// which --endpoint does not tell.
func (a *address) noticeProxy(log *slog.Logger, r *http.Request) {
	if a.outside == nil && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		a.warned.Do(func() {
			log.Warn("requests come through a TLS proxy, but clients are told addresses with http://: start the server with --endpoint https://HOST (docs/proxy.md)", "host", r.Host)
		})
	}
}
