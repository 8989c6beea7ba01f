// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func ranges(t *testing.T, texts ...string) []Range {
	t.Helper()
	var list []Range
	for _, text := range texts {
		r, err := ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// TestPrivateRanges: private networks that the host reaches are closed to
// sandboxes, one by one as the operator opens and closes them.
func TestPrivateRanges(t *testing.T) {
	const public, other = "203.0.113.9", "203.0.113.77"
	private := []string{"10.1.2.3", "10.1.9.9", "172.31.0.5", "192.168.7.7", "100.64.0.9", "192.0.0.8"}
	w := newWorld(t, append(private, public, other)...)

	byDefault := map[string]bool{public: true, other: true}
	for _, a := range private {
		if err := w.dial(w.host, a); err != nil {
			t.Fatalf("the host itself does not reach %s: %v", a, err)
		}
		byDefault[a] = false
	}
	n := w.open(Config{})
	w.reaches(w.sandbox(n), byDefault)
	if err := w.dial(w.sandbox(n), private[0]); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("a closed address: %v, want it prohibited at once", err)
	}
	if seen, err := n.Refused(); err != nil || seen[refusedAddress] < uint64(len(private)) {
		t.Errorf("counted %v, %v", seen, err)
	}
	w.must(n.Close())

	port := fmt.Sprint(w.port)
	for _, c := range []struct {
		allow, deny []string
		want        map[string]bool
	}{
		{allow: []string{"10.1.0.0/16", "192.168.7.7"}, deny: []string{"10.1.9.0/24", other},
			want: map[string]bool{"10.1.2.3": true, "10.1.9.9": false, "192.168.7.7": true, "172.31.0.5": false, public: true, other: false}},
		{allow: []string{"10.1.2.3:" + port, "10.1.9.9:1"}, deny: []string{public + ":" + port, other + ":1"},
			want: map[string]bool{"10.1.2.3": true, "10.1.9.9": false, public: false, other: true}},
		{allow: []string{"203.0.113.0/24:" + port, "10.0.0.0/8"}, deny: []string{"0.0.0.0/0"},
			want: map[string]bool{public: true, other: true, "10.1.2.3": true, "172.31.0.5": false, outsideEnd.Addr().String(): false}},
		{allow: []string{"0.0.0.0/0"}, // smaller ranges stay closed
			want: map[string]bool{public: true, "10.1.2.3": false}},
	} {
		n := w.open(Config{Allow: ranges(t, c.allow...), Deny: ranges(t, c.deny...)})
		w.reaches(w.sandbox(n), c.want)
		w.must(n.Close())
	}
}

// TestServersOfTheZone: the zone's own servers are closed, wherever they are,
// unless the operator opens exactly them.
func TestServersOfTheZone(t *testing.T) {
	const first, second = "203.0.113.9", "10.1.2.3"
	w := newWorld(t, first, second)
	port := fmt.Sprint(w.port)
	at := func(a string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(a), w.port) }

	n := w.open(Config{Allow: ranges(t, "10.0.0.0/8")})
	sandbox := w.sandbox(n)
	w.reaches(sandbox, map[string]bool{first: true, second: true})
	w.must(n.CloseServers([]netip.AddrPort{at(first), at(second), at("::1"), at(first)}))
	w.reaches(sandbox, map[string]bool{first: false, second: false})
	w.must(n.CloseServers([]netip.AddrPort{at("::ffff:" + first), netip.AddrPortFrom(netip.MustParseAddr(second), w.port+1)}))
	w.reaches(sandbox, map[string]bool{first: false, second: true})
	w.must(n.CloseServers(nil))
	w.reaches(sandbox, map[string]bool{first: true, second: true})
	w.must(n.Close())

	n = w.open(Config{Allow: ranges(t, second+":"+port, first)})
	w.must(n.CloseServers([]netip.AddrPort{at(first), at(second)}))
	w.reaches(w.sandbox(n), map[string]bool{first: false, second: true})
}

// TestHost: none of the host's addresses is reached, even where a port of one
// leads on to what is beyond the host, as that of a container does.
func TestHost(t *testing.T) {
	const public = "203.0.113.9"
	w := newWorld(t, public)
	w.configure(w.host, "lo", "203.0.113.50/32")
	forward(t, netip.MustParseAddr(public), w.port)
	n := w.open(Config{})
	sandbox := w.sandbox(n)
	leads := fmt.Sprint(hostEnd.Addr(), ":8080")
	if err := w.dial(w.outside, leads); err != nil {
		t.Fatalf("nobody reaches the port that leads on: %v", err)
	}
	w.reaches(sandbox, map[string]bool{public: true, hostEnd.Addr().String(): false, "203.0.113.50": false, leads: false})
}

// forward has port 8080 of the host lead to an address, as a container engine
// does.
func forward(t *testing.T, to netip.Addr, port uint16) {
	t.Helper()
	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "engine"})
	prerouting := c.AddChain(&nftables.Chain{Table: table, Name: "prerouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	postrouting := c.AddChain(&nftables.Chain{Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: table, Chain: prerouting, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(8080)},
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	}})
	c.AddRule(&nftables.Rule{Table: table, Chain: postrouting, Exprs: []expr.Any{&expr.Masq{}}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestConnections: a sandbox that opens connections without an end fills its own
// share of the host's table and not the table, and another still connects.
func TestConnections(t *testing.T) {
	const public, bound, flood = "203.0.113.9", 50, 2000
	w := newWorld(t, public)
	n := w.open(Config{Connections: bound, NewPerSecond: flood})
	abuser, victim := w.sandbox(n), w.sandbox(n)
	w.must(w.dial(abuser, public)) // now the two know where each other is, and nothing is lost
	w.datagrams(abuser, public, flood)
	if got := w.remembered(n); got > bound || got < bound/2 {
		t.Errorf("the table has %d connections of a sandbox that may have %d", got, bound)
	}
	if err := w.dial(abuser, public); err == nil {
		t.Error("one more connection than it may have")
	}
	if err := w.dial(victim, public); err != nil {
		t.Errorf("another sandbox: %v", err)
	}
	if seen, err := n.Refused(); err != nil || seen[refusedConnections] == 0 {
		t.Errorf("counted %v, %v", seen, err)
	}
}

// TestNewConnections: how fast a sandbox opens them is bounded too, since the
// kernel remembers closed ones for a while.
func TestNewConnections(t *testing.T) {
	const public, bound, flood = "203.0.113.9", 500, 2000
	w := newWorld(t, public)
	n := w.open(Config{Connections: bound, NewPerSecond: 1})
	abuser, victim := w.sandbox(n), w.sandbox(n)
	w.must(w.dial(abuser, public)) // now the two know where each other is, and nothing is lost
	w.datagrams(abuser, public, flood)
	if seen, err := n.Refused(); err != nil || seen[refusedRate] == 0 {
		t.Errorf("counted %v, %v", seen, err)
	}
	if err := w.dial(victim, public); err != nil {
		t.Errorf("another sandbox: %v", err)
	}
}

// TestClosedConnectionsAreForgotten: soon, by the timeouts that the table has
// for the sandboxes' connections.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	const public = "203.0.113.9"
	w := newWorld(t, public)
	n := w.open(Config{})
	w.must(w.dial(w.sandbox(n), public))
	for {
		flows := w.flows(n)
		if len(flows) != 1 {
			t.Fatalf("%d connections in the table, not the one that was made", len(flows))
		}
		if tcp, ok := flows[0].ProtoInfo.(*netlink.ProtoInfoTCP); !ok || tcp.State != timeWait {
			continue // the other side has not closed yet
		}
		if flows[0].TimeOut > uint32(closedFor.Seconds()) {
			t.Errorf("a closed connection is remembered for %d s more", flows[0].TimeOut)
		}
		return
	}
}

// timeWait is the kernel's TCP_CONNTRACK_TIME_WAIT.
const timeWait = 7

// datagrams sends many, each from a socket of its own.
func (w *world) datagrams(ns *os.File, to string, count int) {
	w.t.Helper()
	w.in(ns, func() error {
		for range count {
			conn, err := net.Dial("udp4", to+":9")
			if err != nil {
				return err
			}
			_, _ = conn.Write([]byte("x")) // it may be told that nobody listens
			if err := conn.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

// flows are the connections of the sandboxes in the host's table.
func (w *world) flows(n *NAT) []*netlink.ConntrackFlow {
	w.t.Helper()
	list, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	w.must(err)
	var own []*netlink.ConntrackFlow
	for _, f := range list {
		if ip, ok := netip.AddrFromSlice(f.Forward.SrcIP.To4()); ok && n.Subnet().Contains(ip) {
			own = append(own, f)
		}
	}
	return own
}

func (w *world) remembered(n *NAT) (datagrams int) {
	for _, f := range w.flows(n) {
		if f.Forward.Protocol == unix.IPPROTO_UDP {
			datagrams++
		}
	}
	return datagrams
}

// TestShape: what a sandbox sends and receives is bounded at both ends of its
// link.
func TestShape(t *testing.T) {
	w := newWorld(t, "203.0.113.9")
	n := w.open(Config{BytesPerSecond: 10 << 20})
	ns := w.sandbox(n)
	w.must(w.dial(ns, "203.0.113.9"))
	shaped := func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Type() != "veth" || l.Attrs().Name == "uplink" {
				continue
			}
			queues, err := netlink.QdiscList(l)
			if err != nil {
				return err
			}
			if tbf, ok := queues[0].(*netlink.Tbf); !ok || tbf.Rate != 10<<20 {
				t.Errorf("%s has the queue %v", l.Attrs().Name, queues[0])
			}
			return nil
		}
		return errors.New("no interface")
	}
	w.in(ns, shaped)
	w.in(w.host, shaped)
}
