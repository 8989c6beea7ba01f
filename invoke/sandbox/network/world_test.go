// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"thaw.dev/thaw/internal/testkit"
)

// world is a host with a network beyond it, each a namespace of the test's own.
// The host's is that of the test's thread.
type world struct {
	t       *testing.T
	host    *os.File
	outside *os.File
	port    uint16 // where every address outside answers
}

// The ends of the link between the two.
var (
	hostEnd    = netip.MustParsePrefix("192.0.2.1/30")
	outsideEnd = netip.MustParsePrefix("192.0.2.2/30")
)

// newWorld makes both, with these addresses outside.
func newWorld(t *testing.T, addresses ...string) *world {
	testkit.RequireRoot(t)
	runtime.LockOSThread() // for good: the thread ends with the test, and the namespaces with it
	w := &world{t: t, outside: newSpace(t)}
	w.host = newSpace(t) // where this thread is now
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(w.outside.Fd())}
	w.must(netlink.LinkAdd(link))
	w.configure(w.host, "lo", "127.0.0.1/8")
	w.configure(w.host, "uplink", hostEnd.String())
	w.configure(w.outside, "eth0", outsideEnd.String())
	for _, a := range addresses {
		w.configure(w.outside, "lo", a+"/32")
		w.must(netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.ParseIP(a), Mask: net.CIDRMask(32, 32)}, Gw: outsideEnd.Addr().AsSlice()}))
	}
	var listener net.Listener
	w.in(w.outside, func() (err error) {
		listener, err = net.Listen("tcp4", "0.0.0.0:0")
		return err
	})
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the other side
				defer conn.Close()
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	w.port = netip.MustParseAddrPort(listener.Addr().String()).Port()
	return w
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

// newSpace makes a network namespace and moves the thread there.
func newSpace(t *testing.T) *os.File {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(ns), "")
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func (w *world) configure(ns *os.File, name, address string) {
	w.t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	w.must(err)
	defer h.Close()
	link, err := h.LinkByName(name)
	w.must(err)
	a, err := netlink.ParseAddr(address)
	w.must(err)
	w.must(h.AddrAdd(link, a))
	w.must(h.LinkSetUp(link))
}

// in calls f on a thread in a namespace.
func (w *world) in(ns *os.File, f func() error) {
	w.t.Helper()
	w.must(within(ns, f))
}

func within(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := netns.Set(netns.NsHandle(ns.Fd())); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// open opens NAT on the host.
func (w *world) open(config Config) *NAT {
	w.t.Helper()
	n, err := OpenNAT("test", config)
	w.must(err)
	w.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return n
}

// sandbox makes a namespace behind NAT.
func (w *world) sandbox(n *NAT) *os.File {
	w.t.Helper()
	var ns *os.File
	w.in(w.host, func() error {
		ns = newSpace(w.t)
		return nil
	})
	lease, err := n.Attach(ns)
	w.must(err)
	w.t.Cleanup(func() { _ = lease.Release() })
	return ns
}

// dialPatience is more than a connection within one machine needs, and what a
// test waits for one that nobody answers.
const dialPatience = 2 * time.Second

// dial connects from a namespace to an address, at the port where the outside
// answers, or at that of the address.
func (w *world) dial(ns *os.File, address string) (err error) {
	w.t.Helper()
	if _, notBoth := netip.ParseAddrPort(address); notBoth != nil {
		address = fmt.Sprint(address, ":", w.port)
	}
	w.in(ns, func() error {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp4", address, dialPatience); err == nil {
			return conn.Close()
		}
		return nil
	})
	return err
}

// reaches checks which addresses a namespace reaches.
func (w *world) reaches(ns *os.File, want map[string]bool) {
	w.t.Helper()
	for address, open := range want {
		if err := w.dial(ns, address); (err == nil) != open {
			w.t.Errorf("%s: %v, want open: %t", address, err, open)
		}
	}
}
