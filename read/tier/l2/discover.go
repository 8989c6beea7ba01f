// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"thaw.dev/thaw"
)

// Discovery says how the servers of a zone are found.
type Discovery struct {
	fixed      []string
	srv        string // name of SRV records
	host, port string // name whose addresses are all servers

	// Resolver asks the DNS; nil means the machine's.
	Resolver *net.Resolver
}

// lookupEvery is how often names are looked up: a server that is gone costs
// nothing meanwhile, and one that is new is not missed.
const lookupEvery = 15 * time.Second

// ParseDiscovery reads one of
//
//	host:port,host:port,...         these servers
//	srv+_memcached._tcp.example     the targets of these SRV records
//	dns+memcached.example:11211     all addresses of this name
//
// Anything else is [thaw.Invalid].
func ParseDiscovery(s string) (Discovery, error) {
	const op = "parse the servers of L2"
	if name, ok := strings.CutPrefix(s, "srv+"); ok {
		if name == "" || strings.ContainsAny(name, ":, ") {
			return Discovery{}, thaw.Errorf(op, thaw.Invalid, "%q: srv+ wants the name of SRV records, as in srv+_memcached._tcp.example", s)
		}
		return Discovery{srv: name}, nil
	}
	if address, ok := strings.CutPrefix(s, "dns+"); ok {
		host, port, err := splitAddress(address)
		if err != nil {
			return Discovery{}, thaw.Errorf(op, thaw.Invalid, "%q: dns+ wants name:port: %w", s, err)
		}
		return Discovery{host: host, port: port}, nil
	}
	var d Discovery
	for address := range strings.SplitSeq(s, ",") {
		host, port, err := splitAddress(strings.TrimSpace(address))
		if err != nil {
			return Discovery{}, thaw.Errorf(op, thaw.Invalid, "%q: %w", s, err)
		}
		d.fixed = append(d.fixed, net.JoinHostPort(host, port))
	}
	return d, nil
}

func splitAddress(s string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(s)
	if err != nil {
		return "", "", err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", "", &net.AddrError{Err: "it has to be host:port", Addr: s}
	}
	return host, port, nil
}

// Lookup returns the servers as host:port, ascending. Errors: [thaw.Unavailable]
// where the DNS does not answer or knows none.
func (d Discovery) Lookup(ctx context.Context) ([]string, error) {
	const op = "look up the servers of L2"
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	servers := slices.Clone(d.fixed)
	switch {
	case d.srv != "":
		_, records, err := resolver.LookupSRV(ctx, "", "", d.srv)
		if err != nil {
			return nil, thaw.Errorf(op, thaw.Unavailable, "%w", err)
		}
		for _, r := range records {
			servers = append(servers, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
		}
	case d.host != "":
		addresses, err := resolver.LookupHost(ctx, d.host)
		if err != nil {
			return nil, thaw.Errorf(op, thaw.Unavailable, "%w", err)
		}
		for _, a := range addresses {
			servers = append(servers, net.JoinHostPort(a, d.port))
		}
	}
	slices.Sort(servers)
	return slices.Compact(servers), nil
}

// Follow keeps the servers what the discovery says, until ctx ends. While it says
// nothing they stay what they were: a DNS that fails must not empty a cache.
func (l *L2) Follow(ctx context.Context, d Discovery) {
	var current []string
	for {
		lookup, cancel := context.WithTimeout(ctx, lookupEvery)
		servers, err := d.Lookup(lookup)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.opts.Log.WarnContext(ctx, "L2: the servers stay what they were", "servers", len(current), "err", err)
		case !slices.Equal(servers, current):
			if err := l.SetServers(servers); err != nil {
				l.opts.Log.ErrorContext(ctx, "L2: can't use the servers", "err", err)
				break
			}
			l.opts.Log.InfoContext(ctx, "L2: servers", "servers", servers, "before", len(current))
			current = servers
		}
		if d.fixed != nil {
			return
		}
		select {
		case <-time.After(lookupEvery):
		case <-ctx.Done():
			return
		}
	}
}
