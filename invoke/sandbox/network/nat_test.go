// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

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

// TestServersShareASubnet: two servers with one range give no address twice.
func TestServersShareASubnet(t *testing.T) {
	testkit.RequireRoot(t)
	runtime.LockOSThread() // for good: the thread ends with the test, and the namespaces with it
	var spaces []*os.File
	for range 5 {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(ns), "")
		defer file.Close()
		spaces = append(spaces, file)
	}
	var servers []*NAT // in the last of the namespaces, where this thread is now
	for _, instance := range []string{"a", "b"} {
		n, err := OpenNAT(instance, Config{Subnet: netip.MustParsePrefix("10.0.0.0/8")})
		if err != nil {
			t.Fatal(err)
		}
		n.next = n.size - 4 // the longest names of interfaces, and the range's end
		servers = append(servers, n)
	}
	for i := range 4 {
		if _, err := servers[i%2].Attach(spaces[i]); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	list, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if seen[a.IP.String()] {
			t.Errorf("%s is on two interfaces", a.IP)
		}
		seen[a.IP.String()] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d addresses of 4 sandboxes: %v", len(seen), list)
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
