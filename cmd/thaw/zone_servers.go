// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"thaw.dev/thaw/read/tier/l2"
	"thaw.dev/thaw/store/bucket"
)

// The zone's own servers are looked up as often as the loader does it.
const (
	serversEvery   = 15 * time.Second
	serversTimeout = 5 * time.Second
)

// closeServers keeps functions from the servers that this one uses itself and
// that trust whoever reaches them: the zone's cache, an origin at an endpoint of
// the operator's, the collector of traces. What can't be looked up now stays as
// it was.
func (n *node) closeServers(ctx context.Context, before []netip.AddrPort) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, serversTimeout)
	defer cancel()
	servers, err := n.cmd.ownServers(ctx)
	if err != nil {
		n.log.Warn("can't look up a server of the zone, which functions then may reach unless it is in a private range", "err", err)
		servers = append(servers, before...)
	}
	slices.SortFunc(servers, netip.AddrPort.Compare)
	servers = slices.Compact(servers)
	if slices.Equal(servers, before) {
		return before
	}
	if err := n.nat.CloseServers(servers); err != nil {
		n.log.Error("can't close the zone's servers to functions", "err", err)
		return before
	}
	return servers
}

// followServers does it anew now and then, until ctx ends.
func (n *node) followServers(ctx context.Context, servers []netip.AddrPort) {
	for {
		select {
		case <-time.After(serversEvery):
			servers = n.closeServers(ctx, servers)
		case <-ctx.Done():
			return
		}
	}
}

// ownServers looks up where the flags and the environment say that they are. What
// it finds is of use also where some of it fails.
func (c *serveCmd) ownServers(ctx context.Context) ([]netip.AddrPort, error) {
	var places []string // host:port
	var failed []error
	if c.L2 != "" {
		found, err := l2.ParseDiscovery(c.L2)
		if err == nil {
			places, err = found.Lookup(ctx)
		}
		failed = append(failed, err)
	}
	if u, err := url.Parse(c.Origin); err == nil && bucket.IsURL(c.Origin) {
		places = append(places, placeOf(u.Query().Get("endpoint")))
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		places = append(places, placeOf(os.Getenv(name)))
	}
	var servers []netip.AddrPort
	for _, place := range places {
		found, err := lookUpPlace(ctx, place)
		servers, failed = append(servers, found...), append(failed, err)
	}
	return servers, errors.Join(failed...)
}

// placeOf is the host:port of a URL, "" of none.
func placeOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80"}[u.Scheme]
	}
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// lookUpPlace returns the IPv4 addresses of a host:port, none of "".
func lookUpPlace(ctx context.Context, place string) ([]netip.AddrPort, error) {
	if place == "" {
		return nil, nil
	}
	host, text, err := net.SplitHostPort(place)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var servers []netip.AddrPort
	for _, a := range addresses {
		servers = append(servers, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	return servers, err
}
