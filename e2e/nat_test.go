// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestNAT shows that with --network nat functions reach what is beyond the
// host, by the host's address, and neither the host nor one another; and that
// without it they reach nothing.
func TestNAT(t *testing.T) {
	w := newWorld(t, "--network", "nat")
	out := newOutside(t)
	ctx := t.Context()
	ref := w.push("probe:1", "probe:v1")
	client := w.create(ctx, "inside", ref)
	w.create(ctx, "victim", ref)

	peers := make(chan string, 1)
	go func() {
		conn, err := out.listener.Accept()
		if err != nil {
			peers <- err.Error()
			return
		}
		peers <- conn.RemoteAddr().String()
		_ = conn.Close()
	}()
	if got, failed := dial(t, client, "inside", out.listener.Addr().String()); failed != "" {
		t.Fatalf("dial to the outside: %s %s", failed, got)
	}
	if peer := <-peers; !strings.HasPrefix(peer, out.host.Addr().String()+":") {
		t.Errorf("the outside was called by %s, want the host, %s", peer, out.host.Addr())
	}

	victim, inside := address(t, client, "victim"), address(t, client, "inside")
	if victim == inside {
		t.Fatalf("both have the address %s", victim)
	}
	for _, closed := range append(w.hostAddresses(t), victim+":9001", "169.254.169.254:80") {
		if got, failed := dial(t, client, "inside", closed); failed == "" {
			t.Errorf("dial to %s: %s", closed, got)
		}
	}

	without := newWorld(t)
	closed := without.create(ctx, "inside", without.push("probe:1", "probe:v1"))
	if got, failed := dial(t, closed, "inside", out.listener.Addr().String()); failed == "" || !strings.Contains(got, "network is unreachable") {
		t.Errorf("dial to the outside without NAT: %s %s", failed, got)
	}
}

// dial has a function connect to an address.
func dial(t *testing.T, client *lambda.Client, function, to string) (payload, failed string) {
	t.Helper()
	return invoke(t.Context(), t, client, function, fmt.Sprintf(`{"dial":%q}`, to))
}

// address is the one that a sandbox of the function has in the NAT's range.
func address(t *testing.T, client *lambda.Client, function string) string {
	t.Helper()
	payload, failed := invoke(t.Context(), t, client, function, `{"read":"/proc/self/net/fib_trie"}`)
	var text string
	if err := json.Unmarshal([]byte(payload), &text); err != nil || failed != "" {
		t.Fatalf("read its addresses: %s %v %s", failed, err, payload)
	}
	found := regexp.MustCompile(`(198\.1[89]\.\d+\.\d+)\s+/32 host LOCAL`).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no address in the range: %s", text)
	}
	return found[1]
}

// outside is a network beyond this host: a namespace behind a link.
type outside struct {
	listener net.Listener // there
	host     netip.Prefix // this end of the link
}

func newOutside(t *testing.T) outside {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	runtime.LockOSThread() // a namespace is a thread's
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(err)
	defer home.Close()
	there, err := netns.New()
	must(err)
	defer func() { must(netns.Set(home)) }()
	t.Cleanup(func() { _ = there.Close() })
	must(netns.Set(home))

	// RFC 5737's range for documentation has 64 such links, of which machines may
	// have the first for themselves.
	first := netip.AddrFrom4([4]byte{192, 0, 2, byte((1 + os.Getpid()%63) * 4)})
	o := outside{host: netip.PrefixFrom(first.Next(), 30)}
	guest := netip.PrefixFrom(first.Next().Next(), 30)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("out", os.Getpid())}, PeerName: "eth0", PeerNamespace: netlink.NsFd(there)}
	must(netlink.LinkAdd(link))
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	beyond, err := netlink.NewHandleAt(there)
	must(err)
	defer beyond.Close()
	near, err := netlink.NewHandleAt(home)
	must(err)
	defer near.Close()
	for _, end := range []struct {
		in   *netlink.Handle
		name string
		has  netip.Prefix
	}{{near, link.Name, o.host}, {beyond, "eth0", guest}} {
		at, err := end.in.LinkByName(end.name)
		must(err)
		address, err := netlink.ParseAddr(end.has.String())
		must(err)
		must(end.in.AddrAdd(at, address))
		must(end.in.LinkSetUp(at))
	}
	must(netns.Set(there))
	o.listener, err = net.Listen("tcp4", guest.Addr().String()+":0")
	must(err)
	t.Cleanup(func() { _ = o.listener.Close() })
	return o
}
