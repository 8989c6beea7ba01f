// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/network"
)

// networkFlags say what functions reach.
type networkFlags struct {
	Network     string   `help:"What functions reach: none (nothing but their Runtime API) or nat (the network beyond this host, over IPv4 only, without private ranges, and name servers)." enum:"none,nat" default:"none"`
	Nameserver  []string `help:"With --network nat: a name server that resolves the functions' names, in place of those that this host's /etc/resolv.conf names. May be repeated." placeholder:"IP"`
	AllowEgress []string `name:"allow-egress" help:"With --network nat: opens a private range (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 and others are closed), or one server of the zone by its address and port. Of two ranges that hold an address the smaller decides. May be repeated." placeholder:"CIDR[:PORT]"`
	DenyEgress  []string `name:"deny-egress" help:"With --network nat: closes a range, 0.0.0.0/0 for all that is not opened. May be repeated." placeholder:"CIDR[:PORT]"`
	NATBlock    []string `name:"nat-block" hidden:"" help:"What --deny-egress was called."`

	NATSubnet      string `name:"nat-subnet" help:"With --network nat: the range of the functions' own addresses, two for each sandbox. This host must reach nothing else by them. Each server of this host takes a block of it for itself." default:"198.18.0.0/15" placeholder:"CIDR"`
	NATConnections int    `name:"nat-connections" help:"With --network nat: connections of one sandbox at once; by default its share of half of this host's table (net.netfilter.nf_conntrack_max), at most 1024." placeholder:"N"`
	NATNew         int    `name:"nat-new-connections" help:"With --network nat: connections that one sandbox may open in a second, past the first --nat-connections." default:"100" placeholder:"N"`
	NATRate        int64  `name:"nat-rate" help:"With --network nat: MB that one sandbox may send, and receive, in a second; 0 is no bound." default:"75" placeholder:"MB"`
}

// outbound reads the flags: how functions get out, and who resolves names for
// them. Both are nil where they don't get out.
func (f networkFlags) outbound(log *slog.Logger) (*network.Config, *lookup.Forwarder, error) {
	if f.Network != "nat" {
		for flag, given := range map[string]bool{
			"--nameserver": len(f.Nameserver) > 0, "--nat-block": len(f.NATBlock) > 0,
			"--allow-egress": len(f.AllowEgress) > 0, "--deny-egress": len(f.DenyEgress) > 0,
		} {
			if given {
				return nil, nil, thaw.Errorf("serve", thaw.Invalid, "%s needs --network nat: functions have no network otherwise", flag)
			}
		}
		log.Info("functions have no network; --network nat gives them one")
		return nil, nil, nil
	}
	config, err := f.config()
	if err != nil {
		return nil, nil, err
	}
	if len(f.NATBlock) > 0 {
		log.Warn("--nat-block is called --deny-egress now, and goes away with the next release")
	}
	var servers []netip.Addr
	for _, text := range f.Nameserver {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return nil, nil, thaw.Errorf("serve", thaw.Invalid, "--nameserver %s is not an IP address", text)
		}
		servers = append(servers, address)
	}
	names := lookup.NewForwarder(servers, log)
	log.Info("functions reach the network beyond this host, over IPv4 and without private ranges",
		"nameservers", names.Servers(), "open", f.AllowEgress, "closed", append(f.DenyEgress, f.NATBlock...))
	return config, names, nil
}

// config reads the flags that say what is open, and how much.
func (f networkFlags) config() (*network.Config, error) {
	if f.NATConnections < 0 || f.NATNew < 1 || f.NATRate < 0 {
		return nil, thaw.Errorf("serve", thaw.Invalid, "--nat-connections and --nat-rate are not negative, and --nat-new-connections is at least 1")
	}
	c := network.Config{Connections: f.NATConnections, NewPerSecond: f.NATNew, BytesPerSecond: f.NATRate << 20}
	var err error
	if c.Subnet, err = netip.ParsePrefix(f.NATSubnet); err != nil {
		return nil, thaw.Errorf("serve", thaw.Invalid, "--nat-subnet %s: write ADDRESS/BITS, as 198.18.0.0/15", f.NATSubnet)
	}
	if c.Allow, err = readRanges("--allow-egress", f.AllowEgress); err != nil {
		return nil, err
	}
	if c.Deny, err = readRanges("--deny-egress", f.DenyEgress); err != nil {
		return nil, err
	}
	blocked, err := readRanges("--nat-block", f.NATBlock)
	c.Deny = append(c.Deny, blocked...)
	return &c, err
}

func readRanges(flag string, texts []string) ([]network.Range, error) {
	var ranges []network.Range
	for _, text := range texts {
		r, err := network.ParseRange(text)
		if err != nil {
			return nil, thaw.Wrap(flag, err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// openedNAT notes how functions get out, and says how much each may have.
func (n *node) openedNAT(nat *network.NAT) {
	if n.nat = nat; nat == nil {
		return
	}
	connections, perSecond, table := nat.Bounds()
	n.log.Info("what one sandbox has of the network", "connections", connections, "new_per_second", perSecond, "mb_per_second", n.cmd.NATRate, "subnet", nat.Subnet())
	if all := connections * n.cmd.Sandboxes; all > table/2 {
		n.log.Warn("all sandboxes together may have more connections than half of what this host's table holds, and then others get none: "+
			"lower --nat-connections or --sandboxes, or raise net.netfilter.nf_conntrack_max", "together", all, "table", table)
	}
	n.metrics.registry.MustRegister(&networkCollector{node: n})
}

// networkCollector tells what functions were refused.
type networkCollector struct{ node *node }

var networkRefused = prometheus.NewDesc("thaw_network_refused_packets_total",
	"Packets of functions that were refused, by reason: the address is closed, too many connections at once, too high a rate of new ones.", []string{"reason"}, nil)

// Describe names the metric.
func (c *networkCollector) Describe(ch chan<- *prometheus.Desc) { ch <- networkRefused }

// Collect reads the packet filter's counters.
func (c *networkCollector) Collect(ch chan<- prometheus.Metric) {
	seen, err := c.node.nat.Refused()
	if err != nil {
		c.node.log.Warn("metrics without the packet filter's", "error", err)
		return
	}
	for reason, packets := range seen {
		ch <- prometheus.MustNewConstMetric(networkRefused, prometheus.CounterValue, float64(packets), reason)
	}
}
