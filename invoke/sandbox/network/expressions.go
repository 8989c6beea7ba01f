// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of the rules' comparisons: one of 16 bytes, or in its place two of
// its four parts.
const (
	register    = unix.NFT_REG_1
	firstOfTwo  = unix.NFT_REG32_00
	secondOfTwo = unix.NFT_REG32_00 + 1
)

// Offsets in an IPv4 header, and of the port in TCP's, UDP's and their like.
const (
	offsetSource      = 12
	offsetDestination = 16
	offsetPort        = 2
)

// interfaces compares the beginning of an interface's name.
func (f *filter) interfaces(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}, &expr.Cmp{Op: op, Register: register, Data: []byte(f.prefix)}}
}

// in compares an address with a range.
func in(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	network := p.Addr().As4()
	mask := ^uint32(0) << (32 - p.Bits()) // 0 for all addresses
	return append(address(offset),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.BigEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: register, Data: network[:]})
}

func address(offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}}
}

// to compares where a packet goes with a range of addresses and its port.
func to(r Range) []expr.Any {
	parts := in(offsetDestination, expr.CmpOpEq, r.Prefix)
	if r.Port == 0 {
		return parts
	}
	return append(parts,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, // which has no ports
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: []byte{unix.IPPROTO_ICMP}},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.BigEndian.PutUint16(r.Port)})
}

// addressAndPort looks up where a packet goes in a set of both.
func addressAndPort(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: firstOfTwo, Base: expr.PayloadBaseNetworkHeader, Offset: offsetDestination, Len: 4},
		&expr.Payload{DestRegister: secondOfTwo, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2},
		&expr.Lookup{SourceRegister: firstOfTwo, SetName: set.Name, SetID: set.ID},
	}
}

func ipv4(op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, &expr.Cmp{Op: op, Register: register, Data: []byte{unix.NFPROTO_IPV4}}}
}

// local holds where a packet goes to the host itself.
func local() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// state holds for a connection in one of these states.
func state(states uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(states), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}

// each holds by a measure that every interface has for itself. The key is the
// interface and not the address, which another sandbox has next.
func each(set *nftables.Set, measure expr.Any) []expr.Any {
	operation := uint32(unix.NFT_DYNSET_OP_ADD)
	if set.HasTimeout {
		operation = unix.NFT_DYNSET_OP_UPDATE
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: register},
		&expr.Dynset{SrcRegKey: register, SetName: set.Name, SetID: set.ID, Operation: operation, Timeout: set.Timeout, Exprs: []expr.Any{measure}},
	}
}

// more is the measure of more than so many connections at once.
func more(connections int) expr.Any {
	return &expr.Connlimit{Count: uint32(connections), Flags: expr.NFT_CONNLIMIT_F_INV}
}

// faster is the measure of more than so many packets a second.
func faster(perSecond, burst int) expr.Any {
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(perSecond), Burst: uint32(burst), Unit: expr.LimitTimeSecond, Over: true}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func jump(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

// count adds to a counter of the table.
func count(name string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: name}}
}

// prohibit answers that the administrator has prohibited it, so that a
// connection fails at once.
func prohibit() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

// closedFor is how long the kernel remembers a connection of TCP that both ends
// have closed: 120 s by default, which at the rate that one sandbox may open
// some would be much of the host's table.
const closedFor = 10 * time.Second

// shortMemory is the object of a table that has TCP use closedFor.
func shortMemory(table *nftables.Table, name string) *nftables.NamedObj {
	seconds := uint32(closedFor / time.Second)
	return &nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeCtTimeout, Obj: &expr.CtTimeout{
		L3Proto: unix.NFPROTO_IPV4, L4Proto: unix.IPPROTO_TCP,
		Policy: expr.CtStatePolicyTimeout{expr.CtStateTCPTIMEWAIT: seconds, expr.CtStateTCPCLOSE: seconds},
	}}
}

// intervals turns ranges into a set's elements, which must not overlap.
func intervals(ranges []netip.Prefix) []nftables.SetElement {
	sorted := slices.Clone(ranges)
	for i := range sorted {
		sorted[i] = sorted[i].Masked()
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var elements []nftables.SetElement
	var last netip.Prefix
	for _, r := range sorted {
		if last.IsValid() && last.Contains(r.Addr()) {
			continue
		}
		last = r
		start, end := nftables.SetElement{Key: r.Addr().AsSlice()}, after(r)
		elements = append(elements, start)
		if end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return elements
}

// after returns the address that follows a range, the zero one at the end of
// all addresses.
func after(r netip.Prefix) netip.Addr {
	a := r.Addr().As4()
	for bit := r.Bits(); bit < 32; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(a).Next()
}
