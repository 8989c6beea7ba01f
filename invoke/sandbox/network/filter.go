// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// filter is the packet filter of an instance: a table of the inet family with
// three chains. In nft's words, th* being the instance's interfaces:
//
//	chain input       { hook input;   iifname th* drop }
//	chain forward     { hook forward; iifname th* oifname th* drop
//	                    iifname th* meta nfproto != ipv4 drop
//	                    iifname th* ip saddr != SUBNET drop
//	                    iifname th* ip daddr @blocked drop
//	                    oifname th* ct state established,related accept
//	                    oifname th* drop }
//	chain postrouting { hook postrouting; ip saddr SUBNET oifname != th* masquerade }
type filter struct {
	table   string
	prefix  string
	subnet  netip.Prefix
	blocked []netip.Prefix
}

// Offsets in an IPv4 header.
const (
	offsetSource      = 12
	offsetDestination = 16
)

// Registers of the rules' comparisons.
const register = 1

func (f *filter) install() error {
	if err := f.remove(); err != nil {
		return err
	}
	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: f.table})
	blocked := &nftables.Set{Table: table, Name: "blocked", KeyType: nftables.TypeIPAddr, Interval: true}
	if err := c.AddSet(blocked, intervals(f.blocked)); err != nil {
		return err
	}
	chain := func(name string, hook *nftables.ChainHook, kind nftables.ChainType, priority *nftables.ChainPriority) func(...[]expr.Any) {
		ch := c.AddChain(&nftables.Chain{Table: table, Name: name, Hooknum: hook, Type: kind, Priority: priority})
		return func(parts ...[]expr.Any) {
			c.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: slices.Concat(parts...)})
		}
	}
	from := f.interfaces(expr.MetaKeyIIFNAME, expr.CmpOpEq)
	to := f.interfaces(expr.MetaKeyOIFNAME, expr.CmpOpEq)

	input := chain("input", nftables.ChainHookInput, nftables.ChainTypeFilter, nftables.ChainPriorityFilter)
	input(from, verdict(expr.VerdictDrop))

	forward := chain("forward", nftables.ChainHookForward, nftables.ChainTypeFilter, nftables.ChainPriorityFilter)
	forward(from, to, verdict(expr.VerdictDrop))
	forward(from, ipv4(expr.CmpOpNeq), verdict(expr.VerdictDrop))
	forward(from, f.source(expr.CmpOpNeq), verdict(expr.VerdictDrop))
	forward(from, address(offsetDestination), []expr.Any{&expr.Lookup{SourceRegister: register, SetName: blocked.Name, SetID: blocked.ID}}, verdict(expr.VerdictDrop))
	forward(to, established(), verdict(expr.VerdictAccept))
	forward(to, verdict(expr.VerdictDrop))

	post := chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainTypeNAT, nftables.ChainPriorityNATSource)
	post(ipv4(expr.CmpOpEq), f.source(expr.CmpOpEq), f.interfaces(expr.MetaKeyOIFNAME, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
	return c.Flush()
}

// remove deletes the table with all that is in it; a table that is not there
// is no error.
func (f *filter) remove() error {
	c := &nftables.Conn{}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: f.table})
	if err := c.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// interfaces compares the beginning of an interface's name.
func (f *filter) interfaces(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}, &expr.Cmp{Op: op, Register: register, Data: []byte(f.prefix)}}
}

// source compares the source address with the subnet.
func (f *filter) source(op expr.CmpOp) []expr.Any {
	network := f.subnet.Addr().As4()
	mask := ^uint32(0) << (32 - f.subnet.Bits())
	return append(address(offsetSource),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.BigEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: register, Data: network[:]})
}

func address(offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}}
}

func ipv4(op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, &expr.Cmp{Op: op, Register: register, Data: []byte{unix.NFPROTO_IPV4}}}
}

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

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
