// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Config configures NAT.
type Config struct {
	// Subnet is the IPv4 range of the sandboxes, two addresses each; the
	// default is [DefaultSubnet]. It must be in use nowhere the host reaches.
	Subnet netip.Prefix

	// Blocked adds ranges that sandboxes can't reach to those that never are:
	// the host, other sandboxes, loopback, link-local (cloud metadata),
	// multicast and reserved addresses.
	Blocked []netip.Prefix
}

// DefaultSubnet is half of the range that RFC 2544 reserves for tests of
// network devices, and that no network routes.
var DefaultSubnet = netip.MustParsePrefix("198.18.0.0/16")

// maxPairs bounds the pairs of a large subnet: their numbers are in the names of
// interfaces, which have 15 bytes.
const maxPairs = 1_000_000

// never are the ranges that no sandbox reaches.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
}

// forwardPath is the host's switch for routing, which NAT needs.
const forwardPath = "/proc/sys/net/ipv4/ip_forward"

// NAT gives namespaces outbound access. It is safe for concurrent use.
type NAT struct {
	config Config
	prefix string // of the host's interface names
	filter *filter

	mu   sync.Mutex
	used map[int]bool
	next int
	size int // pairs of addresses
}

// OpenNAT removes what an earlier process of the instance left, switches the
// host's IPv4 forwarding on and sets up the packet filter. The filter is a
// table of its own; a stricter one that the host has stays in force.
func OpenNAT(instance string, config Config) (*NAT, error) {
	const op = "network: NAT"
	if !config.Subnet.IsValid() {
		config.Subnet = DefaultSubnet
	}
	config.Subnet = config.Subnet.Masked()
	if !config.Subnet.Addr().Is4() || config.Subnet.Bits() > 29 || !ValidInstance(instance) {
		return nil, thaw.Errorf(op, thaw.Invalid, "subnet %s of instance %q: an IPv4 range of 8 addresses or more is needed", config.Subnet, instance)
	}
	for _, b := range config.Blocked {
		if !b.Addr().Is4() {
			return nil, thaw.Errorf(op, thaw.Invalid, "blocked range %s is not IPv4", b)
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	n := &NAT{config: config, prefix: fmt.Sprintf("th%06x-", h.Sum32()&0xffffff), used: map[int]bool{},
		size: min(1<<(31-config.Subnet.Bits()), maxPairs)}
	n.next = 1 + int(h.Sum32()%uint32(n.size-2)) // another server on this host begins elsewhere
	n.filter = &filter{table: "thaw_" + instance, prefix: n.prefix, subnet: config.Subnet, blocked: append(append([]netip.Prefix{}, never...), config.Blocked...)}
	if err := n.sweep(); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	if err := os.WriteFile(forwardPath, []byte("1"), 0o644); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	return n, thaw.Wrap(op, n.filter.install())
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

// taken reports whether an interface of the host has the address: that of another
// server's sandbox, which would get the answers to this one's.
func taken(host netip.Addr) (bool, error) {
	list, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
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
	}
	return there.RouteAdd(&netlink.Route{Gw: host.AsSlice()})
}

// addresses returns a pair's two addresses: a network of two (RFC 3021).
func (n *NAT) addresses(pair int) (host, guest netip.Addr) {
	base := n.config.Subnet.Addr().As4()
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
	return 0, thaw.Errorf("network: attach", thaw.Throttled, "all addresses of %s are in use", n.config.Subnet)
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

// Close removes the packet filter and what interfaces are left. It leaves
// IPv4 forwarding on: who else needs it by now can't be known.
func (n *NAT) Close() error {
	return thaw.Wrap("network: close NAT", errors.Join(n.sweep(), n.filter.remove()))
}
