// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math/bits"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// DefaultSubnet is the range that RFC 2544 reserves for tests of network
// devices, and that no network routes.
var DefaultSubnet = netip.MustParsePrefix("198.18.0.0/15")

// blockBits is the size of the part of the range that a server takes for
// itself: 2,046 sandboxes.
const blockBits = 20

// claim is a block of addresses that is this process's alone. It is a name in
// the network namespace, which the kernel frees when the process ends.
type claim struct {
	block netip.Prefix
	name  net.Listener
}

// claimBlock takes a block of the range that no other server of this network
// namespace has, large enough for that many sandboxes.
func claimBlock(instance string, within netip.Prefix, sandboxes int) (claim, error) {
	const op = "network: NAT"
	// Pairs that were just given back are not given out again, so twice as many.
	size := max(within.Bits(), min(blockBits, 31-bits.Len(uint(2*sandboxes))))
	count := uint32(1) << (size - within.Bits())
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	for i := range count {
		block := nth(within, size, (h.Sum32()+i)%count)
		used, err := inUse(block)
		if err != nil {
			return claim{}, err
		}
		if used {
			continue
		}
		name, err := net.Listen("unix", "@thaw/network/"+block.String())
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		return claim{block, name}, err
	}
	return claim{}, thaw.Errorf(op, thaw.Unavailable, "other servers on this host have all of %s: name another range with --nat-subnet", within)
}

// nth returns a part of a range: the i-th of that size.
func nth(within netip.Prefix, size int, i uint32) netip.Prefix {
	base := within.Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(base[:])+i<<(32-size))
	return netip.PrefixFrom(netip.AddrFrom4(a), size)
}

// inUse reports whether an interface of the host has an address in the block.
func inUse(block netip.Prefix) (bool, error) {
	list, err := hostAddresses()
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && block.Contains(ip) {
			return true, nil
		}
	}
	return false, err
}

func (c claim) release() error {
	if err := c.name.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
