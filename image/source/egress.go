// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"

	thaw "thaw.dev/thaw"
)

// Egress says where the references of tenants may lead this host: without
// rules to public addresses by HTTPS, and nowhere else. A tenant chooses the
// host in a reference, and that host chooses further ones (where tokens are
// made, where blobs are redirected to), so what counts is the address of each
// connection at the moment it is made; a name that resolves differently the
// second time gains nothing.
type Egress struct {
	rules    []rule
	resolver *net.Resolver // of host names; nil is the system's
}

// rule is one entry of the operator's list.
type rule struct {
	host  string // "*" is any; "*.x" is everything below x
	port  string // "" is any
	plain bool   // plain HTTP is spoken too
}

var rulePattern = regexp.MustCompile(`^(\*|(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?$`)

// ParseEgress reads the operator's list: each entry is HOST[:PORT], where HOST
// may be "*.example.com" or "*", and lets references reach this host whatever
// its address. With "http://" before it, plain HTTP is allowed there as well.
// The error is [thaw.Invalid].
func ParseEgress(list []string) (Egress, error) {
	var e Egress
	for _, text := range list {
		rest, plain := strings.CutPrefix(strings.ToLower(text), "http://")
		rest = strings.TrimSuffix(strings.TrimPrefix(rest, "https://"), "/")
		parts := rulePattern.FindStringSubmatch(rest)
		if parts == nil {
			return Egress{}, thaw.Errorf("registry "+text, thaw.Invalid, "write HOST[:PORT], *.DOMAIN or *, with http:// before it for plain HTTP")
		}
		e.rules = append(e.rules, rule{host: strings.Trim(parts[1], "[]"), port: parts[2], plain: plain})
	}
	return e, nil
}

func (r rule) match(host, port string) bool {
	if r.port != "" && r.port != port {
		return false
	}
	if below, ok := strings.CutPrefix(r.host, "*"); ok {
		return strings.HasSuffix(host, below)
	}
	return r.host == host
}

// names reports whether the operator's list has the host, and for plain whether
// it has it for plain HTTP.
func (e Egress) names(host, port string, plain bool) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, r := range e.rules {
		if r.match(host, port) && (r.plain || !plain) {
			return true
		}
	}
	return false
}

// plain reports whether plain HTTP may be spoken with "host[:port]".
func (e Egress) plain(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), "80"
	}
	return e.names(host, port, true)
}

// refusedHost is a host that the policy does not let this one connect to. It
// does not tell the address that the name stands for, which may be a private
// matter of this network.
type refusedHost string

func (h refusedHost) Error() string {
	return fmt.Sprintf("%s has no public address; the operator can permit it: thaw serve --allow-registry %s", string(h), string(h))
}

func refused(host string) error { return thaw.Errorf(op, thaw.Denied, "%w", refusedHost(host)) }

// dial connects to what the policy allows.
func (e Egress) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout, Resolver: e.resolver}
	if !e.names(host, port, false) {
		dialer.Control = func(_, resolved string, _ syscall.RawConn) error {
			if at, err := netip.ParseAddrPort(resolved); err != nil || !isPublic(at.Addr()) {
				return refused(host)
			}
			return nil
		}
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err == nil {
		return conn, nil
	}
	if denied, ok := errors.AsType[*thaw.Error](err); ok {
		return nil, denied // without the address around it
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		bare := *lookup
		bare.Server = "" // this network's
		return nil, &bare
	}
	return nil, err
}

// dialTimeout bounds one connection's making, all addresses of the host
// together.
const dialTimeout = 30 * time.Second

// transport makes the connections. Where the environment names a proxy
// (HTTPS_PROXY), the proxy resolves names, and so is what enforces a policy on
// them; addresses given as such are still checked here.
func (e Egress) transport() http.RoundTripper {
	direct := http.DefaultTransport.(*http.Transport).Clone()
	direct.Proxy = nil
	direct.DialContext = e.dial
	return &guarded{egress: e, proxy: http.ProxyFromEnvironment, direct: direct, proxied: http.DefaultTransport}
}

// guarded refuses what the policy does not allow, before a byte is sent.
type guarded struct {
	egress          Egress
	proxy           func(*http.Request) (*url.URL, error) // nil where there is none for a request
	direct, proxied http.RoundTripper
}

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	proxy, err := g.proxy(r)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return g.direct.RoundTrip(r)
	}
	host := r.URL.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil && !isPublic(addr) && !g.egress.names(host, r.URL.Port(), false) {
		return nil, refused(host)
	}
	return g.proxied.RoundTrip(r)
}

// special are the blocks of IPv4 and of IPv6's global unicast that are not
// public: IANA's special-purpose registries, with what they embed.
var special = parsePrefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")
	nat64         = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: IPv4 in the last four bytes
)

func parsePrefixes(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		prefixes = append(prefixes, netip.MustParsePrefix(text))
	}
	return prefixes
}

// isPublic reports whether an address is one of the public internet.
func isPublic(addr netip.Addr) bool {
	addr = addr.WithZone("").Unmap()
	if nat64.Contains(addr) {
		bytes := addr.As16()
		addr = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return false
	}
	for _, prefix := range special {
		if prefix.Contains(addr) {
			return false
		}
	}
	return addr.IsValid()
}
