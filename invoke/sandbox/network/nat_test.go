// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
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
