// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// filter is the packet filter of an instance: a table of the inet family. In
// nft's words, th* being the instance's interfaces:
//
//	chain prerouting  { hook prerouting; iifname th* fib daddr type local drop }
//	chain input       { hook input;      iifname th* drop }
//	chain forward     { hook forward;    iifname th* goto out
//	                    oifname th* ct state established,related accept
//	                    oifname th* drop }
//	chain out         { oifname th* drop
//	                    meta nfproto != ipv4 drop
//	                    ip saddr != SUBNET drop
//	                    ct state invalid drop
//	                    ip daddr @never reject
//	                    ip daddr . th dport @servers reject
//	                    jump egress
//	                    ct state established,related accept
//	                    update @opening { iif limit rate over N/second } drop
//	                    add @open { iif ct count over N } drop
//	                    ct timeout set "short" }
//	chain egress      { ip daddr RANGE return, or reject: see ordered }
//	chain postrouting { hook postrouting; ip saddr SUBNET oifname != th* masquerade }
//
// Every packet is held against the addresses, not only the first of a
// connection: what the kernel remembers of an earlier server's connections
// opens nothing.
type filter struct {
	table  string
	prefix string
	subnet netip.Prefix
	never  []netip.Prefix
	rules  []rule

	connections  int // of one sandbox at once
	newPerSecond int // and how many it may open
}

// The counters of what the filter refuses, in packets, as the metrics have them.
const (
	refusedAddress     = "address"     // one that is closed
	refusedConnections = "connections" // one too many at once
	refusedRate        = "rate"        // too many new ones a second
)

var refusals = []string{refusedAddress, refusedConnections, refusedRate}

const (
	chainOut, chainEgress = "out", "egress"
	setServers            = "servers"
	objectShort           = "short"

	// maxInterfaces bounds the sets that have an element for each interface: more
	// than there are sandboxes, since it takes a moment until one is forgotten.
	maxInterfaces = 1 << 20

	// rateMemory is how long an interface's rate is remembered: until it may open
	// as many again as it could at first.
	rateMemory = time.Minute
)

// building is a table that is being made.
type building struct {
	*nftables.Conn
	table *nftables.Table
}

// chain makes a chain, and returns how to add rules to it.
func (b building) chain(c nftables.Chain) func(...[]expr.Any) {
	c.Table = b.table
	ch := b.AddChain(&c)
	return func(parts ...[]expr.Any) {
		b.AddRule(&nftables.Rule{Table: b.table, Chain: ch, Exprs: slices.Concat(parts...)})
	}
}

func (f *filter) install() error {
	if err := f.remove(); err != nil {
		return err
	}
	c := &nftables.Conn{}
	b := building{c, c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: f.table})}
	for _, name := range refusals {
		c.AddObj(&nftables.CounterObj{Table: b.table, Name: name})
	}
	if err := f.addOut(b); err != nil {
		return err
	}
	from, to := f.interfaces(expr.MetaKeyIIFNAME, expr.CmpOpEq), f.interfaces(expr.MetaKeyOIFNAME, expr.CmpOpEq)

	// Before another table may turn a port of the host into an address behind it.
	prerouting := b.chain(nftables.Chain{Name: "prerouting", Hooknum: nftables.ChainHookPrerouting, Type: nftables.ChainTypeFilter, Priority: nftables.ChainPriorityRaw})
	prerouting(from, local(), count(refusedAddress), verdict(expr.VerdictDrop))

	input := b.chain(nftables.Chain{Name: "input", Hooknum: nftables.ChainHookInput, Type: nftables.ChainTypeFilter, Priority: nftables.ChainPriorityFilter})
	input(from, verdict(expr.VerdictDrop))

	forward := b.chain(nftables.Chain{Name: "forward", Hooknum: nftables.ChainHookForward, Type: nftables.ChainTypeFilter, Priority: nftables.ChainPriorityFilter})
	forward(from, jump(expr.VerdictGoto, chainOut))
	forward(to, state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
	forward(to, verdict(expr.VerdictDrop))

	post := b.chain(nftables.Chain{Name: "postrouting", Hooknum: nftables.ChainHookPostrouting, Type: nftables.ChainTypeNAT, Priority: nftables.ChainPriorityNATSource})
	post(ipv4(expr.CmpOpEq), in(offsetSource, expr.CmpOpEq, f.subnet), f.interfaces(expr.MetaKeyOIFNAME, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
	return c.Flush()
}

// addOut adds the chain of what sandboxes send, with what it needs.
func (f *filter) addOut(b building) error {
	closed := &nftables.Set{Table: b.table, Name: "never", KeyType: nftables.TypeIPAddr, Interval: true}
	servers := f.servers()
	opening := &nftables.Set{Table: b.table, Name: "opening", KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian,
		Dynamic: true, HasTimeout: true, Timeout: rateMemory, Size: maxInterfaces}
	open := &nftables.Set{Table: b.table, Name: "open", KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian,
		Dynamic: true, Size: maxInterfaces}
	for set, elements := range map[*nftables.Set][]nftables.SetElement{closed: intervals(f.never), servers: nil, opening: nil, open: nil} {
		if err := b.AddSet(set, elements); err != nil {
			return err
		}
	}
	b.AddObj(shortMemory(b.table, objectShort))

	egress := b.chain(nftables.Chain{Name: chainEgress})
	for _, r := range f.rules {
		if r.open {
			egress(to(r.Range), verdict(expr.VerdictReturn))
		} else {
			egress(to(r.Range), count(refusedAddress), prohibit())
		}
	}
	out := b.chain(nftables.Chain{Name: chainOut})
	out(f.interfaces(expr.MetaKeyOIFNAME, expr.CmpOpEq), count(refusedAddress), verdict(expr.VerdictDrop))
	out(ipv4(expr.CmpOpNeq), verdict(expr.VerdictDrop))
	out(in(offsetSource, expr.CmpOpNeq, f.subnet), verdict(expr.VerdictDrop))
	out(state(expr.CtStateBitINVALID), verdict(expr.VerdictDrop))
	out(address(offsetDestination), []expr.Any{&expr.Lookup{SourceRegister: register, SetName: closed.Name, SetID: closed.ID}}, count(refusedAddress), prohibit())
	out(addressAndPort(servers), count(refusedAddress), prohibit())
	out(jump(expr.VerdictJump, chainEgress))
	out(state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
	out(each(opening, faster(f.newPerSecond, f.connections)), count(refusedRate), verdict(expr.VerdictDrop))
	out(each(open, more(f.connections)), count(refusedConnections), verdict(expr.VerdictDrop))
	out([]expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: objectShort}})
	return nil
}

// servers is the set of addresses and ports of the zone's own servers.
func (f *filter) servers() *nftables.Set {
	return &nftables.Set{Table: f.tableRef(), Name: setServers, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
}

func (f *filter) tableRef() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: f.table}
}

// closeServers replaces the zone's own servers, all at once.
func (f *filter) closeServers(servers []netip.AddrPort) error {
	c, set := &nftables.Conn{}, f.servers()
	c.FlushSet(set)
	var elements []nftables.SetElement
	for _, s := range servers {
		port := append(binaryutil.BigEndian.PutUint16(s.Port()), 0, 0)
		elements = append(elements, nftables.SetElement{Key: append(s.Addr().AsSlice(), port...)})
	}
	if len(elements) > 0 {
		if err := c.SetAddElements(set, elements); err != nil {
			return err
		}
	}
	return c.Flush()
}

// refused returns how many packets each counter has seen.
func (f *filter) refused() (map[string]uint64, error) {
	c := &nftables.Conn{}
	objects, err := c.GetNamedObjects(f.tableRef())
	if err != nil {
		return nil, err
	}
	seen := map[string]uint64{}
	for _, o := range objects {
		named, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		if counter, ok := named.Obj.(*expr.Counter); ok {
			seen[named.Name] = counter.Packets
		}
	}
	return seen, nil
}

// remove deletes the table with all that is in it; a table that is not there
// is no error.
func (f *filter) remove() error {
	c := &nftables.Conn{}
	c.DelTable(f.tableRef())
	if err := c.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
