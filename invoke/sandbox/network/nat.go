// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Config configures NAT.
type Config struct {
	// Subnet is the IPv4 range of the sandboxes of all servers of this host, of
	// which this one takes a block for itself; the default is [DefaultSubnet]. It
	// must be in use nowhere the host reaches.
	Subnet netip.Prefix

	// Sandboxes is how many there may be at once; 0 is 256.
	Sandboxes int

	// Allow opens ranges that are closed by default, [Private] ones, and Deny
	// closes further ones. Of two that hold an address the smaller decides. The
	// host, other sandboxes, loopback, link-local (cloud metadata), multicast and
	// reserved addresses can't be opened.
	Allow, Deny []Range

	// Connections bounds the connections, of any protocol, that one sandbox has at
	// once; 0 is what its share of half the host's table holds, at most 1,024.
	Connections int

	// NewPerSecond bounds how many it opens in a second, past the first
	// Connections; 0 is 100.
	NewPerSecond int

	// BytesPerSecond bounds what it sends and what it receives; 0 is no bound.
	BytesPerSecond int64
}

// maxPairs bounds the pairs of a large subnet: their numbers are in the names of
// interfaces, which have 15 bytes.
const maxPairs = 1_000_000

// forwardPath is the host's switch for routing, which NAT needs.
const forwardPath = "/proc/sys/net/ipv4/ip_forward"

// NAT gives namespaces outbound access. It is safe for concurrent use.
type NAT struct {
	config Config
	claim  claim
	prefix string // of the host's interface names
	filter *filter

	mu   sync.Mutex
	used map[int]bool
	next int
	size int // pairs of addresses
}

// OpenNAT removes what an earlier process of the instance left, takes a block
// of the subnet, switches the host's IPv4 forwarding on and sets up the packet
// filter. The filter is a table of its own; a stricter one that the host has
// stays in force.
func OpenNAT(instance string, config Config) (_ *NAT, err error) {
	const op = "network: NAT"
	if !config.Subnet.IsValid() {
		config.Subnet = DefaultSubnet
	}
	config.Subnet = config.Subnet.Masked()
	if !config.Subnet.Addr().Is4() || config.Subnet.Bits() > 29 || !ValidInstance(instance) {
		return nil, thaw.Errorf(op, thaw.Invalid, "subnet %s of instance %q: an IPv4 range of 8 addresses or more is needed", config.Subnet, instance)
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	config.Sandboxes = cmp.Or(config.Sandboxes, defaultSandboxes)
	config.NewPerSecond = cmp.Or(config.NewPerSecond, defaultNewPerSecond)
	config.Connections = cmp.Or(config.Connections, share(tableSize(), config.Sandboxes))
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	n := &NAT{config: config, prefix: fmt.Sprintf("th%06x-", h.Sum32()&0xffffff), used: map[int]bool{}}
	if err := n.sweep(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	if n.claim, err = claimBlock(instance, config.Subnet, config.Sandboxes); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	n.size = min(1<<(31-n.claim.block.Bits()), maxPairs)
	n.next = 1 + rand.IntN(n.size-2) // the kernel still remembers a predecessor's connections
	n.filter = &filter{table: "thaw_" + instance, prefix: n.prefix, subnet: n.claim.block, never: never,
		rules: ordered(config.Allow, config.Deny), connections: config.Connections, newPerSecond: config.NewPerSecond}
	if err = os.WriteFile(forwardPath, []byte("1"), 0o644); err == nil {
		err = n.filter.install()
	}
	if err != nil {
		return nil, thaw.Wrap(op, errors.Join(err, n.claim.release()))
	}
	return n, nil
}

// The defaults of Config.
const (
	defaultSandboxes    = 256
	defaultNewPerSecond = 100
	maxConnections      = 1024
	minConnections      = 16
)

// tablePath is the host's bound on the connections that the kernel remembers,
// those of all programs and containers together.
const tablePath = "/proc/sys/net/netfilter/nf_conntrack_max"

// tableSize reads the bound; where it is not to be had, it is the smallest that
// a kernel has by default.
func tableSize() int {
	text, err := os.ReadFile(tablePath)
	size, notNumber := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || notNumber != nil || size <= 0 {
		return 65536
	}
	return size
}

// share is how many connections each of the sandboxes may have, so that all of
// them together have at most half of the table.
func share(table, sandboxes int) int {
	return min(max(table/2/sandboxes, minConnections), maxConnections)
}

// Bounds returns what one sandbox may have, and how many connections the host's
// table holds.
func (n *NAT) Bounds() (connections, newPerSecond, table int) {
	return n.config.Connections, n.config.NewPerSecond, tableSize()
}

// Subnet returns the block of addresses that this server took.
func (n *NAT) Subnet() netip.Prefix { return n.claim.block }

// CloseServers closes the addresses and ports of the zone's own servers, in
// place of those of the call before. Where the operator allows such an address
// and port by itself, and not only a range around it, it stays open.
func (n *NAT) CloseServers(servers []netip.AddrPort) error {
	var closed []netip.AddrPort
	for _, s := range servers {
		s = netip.AddrPortFrom(s.Addr().Unmap(), s.Port())
		allowed := func(r Range) bool { return r.Port == s.Port() && r.Prefix.IsSingleIP() && r.Prefix.Addr() == s.Addr() }
		if s.Addr().Is4() && !slices.ContainsFunc(n.config.Allow, allowed) && !slices.Contains(closed, s) {
			closed = append(closed, s)
		}
	}
	return thaw.Wrap("network: close servers", n.filter.closeServers(closed))
}

// Refused returns how many packets were refused, by reason: address, rate,
// connections.
func (n *NAT) Refused() (map[string]uint64, error) {
	seen, err := n.filter.refused()
	return seen, thaw.Wrap("network: count", err)
}

// sweep removes interfaces that bear this instance's prefix. The kernel removes
// those of a namespace that has ended by itself, perhaps just now.
func (n *NAT) sweep() error {
	links, err := links()
	if err != nil {
		return err
	}
	var errs []error
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, n.prefix) {
			if err := netlink.LinkDel(link); !errors.Is(err, unix.ENODEV) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// links lists the interfaces of the host.
func links() ([]netlink.Link, error) { return whole(netlink.LinkList) }

// hostAddresses lists the addresses of the host.
func hostAddresses() ([]netlink.Addr, error) {
	return whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
}

// taken reports whether an interface of the host has the address: that of another
// server's sandbox, which would get the answers to this one's.
func taken(host netip.Addr) (bool, error) {
	list, err := hostAddresses()
	return slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(host.AsSlice()) }), err
}

// whole returns a list of the kernel's, which gives one up during which an
// interface came or went, as they do with sandboxes, whoever's.
func whole[T any](get func() ([]T, error)) ([]T, error) {
	const tries = 100
	for try := 1; ; try++ {
		list, err := get()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == tries {
			return list, err
		}
	}
}

// Lease is one namespace's place in the subnet.
type Lease struct {
	nat  *NAT
	pair int
}

// Attach gives a namespace an interface eth0 with an address and a default
// route. Do it ahead: the first connection through a new pair may take a
// second.
func (n *NAT) Attach(ns *os.File) (*Lease, error) {
	const op = "network: attach"
	for {
		pair, err := n.take()
		if err != nil {
			return nil, err
		}
		err = n.connect(pair, ns)
		if err == nil {
			return &Lease{nat: n, pair: pair}, nil
		}
		if !errors.Is(err, os.ErrExist) {
			n.give(pair)
			return nil, thaw.Wrap(op, err)
		}
		// An interface that the kernel has not yet removed has the name, or another
		// server's has the address; the pair stays taken until one is found.
		defer n.give(pair)
	}
}

func (n *NAT) connect(pair int, ns *os.File) error {
	host, guest := n.addresses(pair)
	if used, err := taken(host); err != nil || used {
		return cmp.Or(err, os.ErrExist)
	}
	name := fmt.Sprintf("%s%d", n.prefix, pair)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := netlink.LinkAdd(link); err != nil {
		return err
	}
	if err := n.setUp(name, host, guest, ns); err != nil {
		return errors.Join(err, netlink.LinkDel(link))
	}
	return nil
}

func (n *NAT) setUp(name string, host, guest netip.Addr, ns *os.File) error {
	here, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	if err != nil {
		return err
	}
	defer there.Close()
	for _, end := range []struct {
		handle  *netlink.Handle
		name    string
		address netip.Addr
	}{{here, name, host}, {there, "eth0", guest}} {
		link, err := end.handle.LinkByName(end.name)
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: end.address.AsSlice(), Mask: net.CIDRMask(31, 32)}}
		if err := end.handle.AddrAdd(link, address); err != nil {
			return err
		}
		if err := end.handle.LinkSetUp(link); err != nil {
			return err
		}
		if err := n.shape(end.handle, link); err != nil {
			return err
		}
	}
	return there.RouteAdd(&netlink.Route{Gw: host.AsSlice()})
}

// shape bounds what goes out of one end of a pair: what the sandbox sends, at
// its own end, where it waits instead of losing packets, and what it receives
// at the host's.
func (n *NAT) shape(h *netlink.Handle, link netlink.Link) error {
	if n.config.BytesPerSecond <= 0 {
		return nil
	}
	rate := uint64(n.config.BytesPerSecond)
	burst := max(shapeBurst, rate/100) // what the clock's resolution needs
	err := h.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate, Buffer: netlink.Xmittime(rate, uint32(burst)), Limit: uint32(burst + shapeQueue),
	})
	if errors.Is(err, os.ErrNotExist) {
		return thaw.Errorf("", thaw.Unavailable, "the kernel has no sch_tbf, which bounds a sandbox's traffic: load the module, or set --nat-rate 0")
	}
	return err
}

// What one sandbox's packets may take of the host's memory while they wait, and
// how much it may send at once.
const (
	shapeBurst = 256 << 10
	shapeQueue = 512 << 10
)

// addresses returns a pair's two addresses: a network of two (RFC 3021).
func (n *NAT) addresses(pair int) (host, guest netip.Addr) {
	base := n.claim.block.Addr().As4()
	at := binary.BigEndian.Uint32(base[:]) + uint32(2*pair)
	var a, b [4]byte
	binary.BigEndian.PutUint32(a[:], at)
	binary.BigEndian.PutUint32(b[:], at+1)
	return netip.AddrFrom4(a), netip.AddrFrom4(b)
}

// take returns a free pair, not one given back a moment ago if it can be
// helped. Pair 0 is left out: it holds the subnet's own address.
func (n *NAT) take() (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range n.size {
		pair := n.next
		if n.next++; n.next >= n.size-1 {
			n.next = 1
		}
		if !n.used[pair] {
			n.used[pair] = true
			return pair, nil
		}
	}
	return 0, thaw.Errorf("network: attach", thaw.Throttled, "all addresses of %s are in use", n.claim.block)
}

func (n *NAT) give(pair int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.used, pair)
}

// Release gives the addresses back. The interface goes with its namespace,
// soon after the last process and socket in it: to delete it would take 20 ms.
func (l *Lease) Release() error {
	l.nat.give(l.pair)
	return nil
}

// Close removes the packet filter and what interfaces are left, and gives the
// block of addresses back. A second call does nothing. It leaves
// IPv4 forwarding on: who else needs it by now can't be known.
func (n *NAT) Close() error {
	return thaw.Wrap("network: close NAT", errors.Join(n.sweep(), n.filter.remove(), n.claim.release()))
}
