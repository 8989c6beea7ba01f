// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
)

// TestListWhileInterfacesComeAndGo: with a list of interfaces a server begins and
// ends its NAT, whatever other sandboxes do meanwhile.
func TestListWhileInterfacesComeAndGo(t *testing.T) {
	testkit.RequireRoot(t)
	runtime.LockOSThread() // for good: the thread ends with the test, and the namespace with it
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	others, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	pair := func(name string) netlink.Link {
		return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	}
	const staying = 64 // a list of more than one message
	for i := range staying {
		if err := others.LinkAdd(pair(fmt.Sprint("stays", i))); err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- comeAndGo(others, pair("fleeting"), stop) }()
	for range 300 {
		list, err := links()
		if err != nil {
			t.Error(err)
			break
		}
		if len(list) < staying {
			t.Errorf("a list has %d interfaces of %d", len(list), staying)
			break
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestServersHaveBlocks: servers of one host have different blocks of a range, at
// the same time, also where their sandboxes' addresses are the last ones; what one
// leaves, the next takes; and with none left it says so.
func TestServersHaveBlocks(t *testing.T) {
	w := newWorld(t)
	subnet := netip.MustParsePrefix("10.0.0.0/18") // four blocks
	var opened sync.WaitGroup
	var mu sync.Mutex // guards servers
	servers := map[netip.Prefix]*NAT{}
	for _, instance := range []string{"a", "b", "c", "d"} {
		opened.Go(func() {
			if err := within(w.host, func() error {
				n, err := OpenNAT(instance, Config{Subnet: subnet})
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				servers[n.Subnet()] = n
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	opened.Wait()
	if len(servers) != 4 {
		t.Fatalf("four servers have %d blocks", len(servers))
	}
	if _, err := OpenNAT("e", Config{Subnet: subnet}); thaw.KindOf(err) != thaw.Unavailable || !strings.Contains(err.Error(), "--nat-subnet") {
		t.Errorf("a fifth server: %v", err)
	}
	for block, n := range servers {
		n.next = n.size - 2 // the range's end
		w.sandbox(n)
		w.sandbox(n)
		mine := 0
		list, err := hostAddresses()
		w.must(err)
		for _, a := range list {
			if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && block.Contains(ip) {
				mine++
			}
		}
		if mine != 2 {
			t.Errorf("%d addresses of two sandboxes in %s", mine, block)
		}
		w.must(n.Close())
		again, err := OpenNAT("e", Config{Subnet: subnet})
		w.must(err)
		if again.Subnet() != block {
			t.Errorf("the next server has %s, not %s, which is free", again.Subnet(), block)
		}
		w.must(again.Close())
		delete(servers, block)
		if n, err = OpenNAT(fmt.Sprint("f", len(servers)), Config{Subnet: subnet}); err != nil { // so that one only is free at a time
			t.Fatal(err)
		}
		defer n.Close()
	}
}

func comeAndGo(h *netlink.Handle, link netlink.Link, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := h.LinkAdd(link); err != nil {
			return err
		}
		if err := h.LinkDel(link); err != nil {
			return err
		}
	}
}
