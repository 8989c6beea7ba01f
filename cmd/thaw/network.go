// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/netip"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/network"
)

// networkFlags say what functions reach.
type networkFlags struct {
	Network    string   `help:"What functions reach: none (nothing but their Runtime API) or nat (the network beyond this host, over IPv4, and name servers)." enum:"none,nat" default:"none"`
	Nameserver []string `help:"With --network nat: a name server that resolves the functions' names, in place of those that this host's /etc/resolv.conf names. May be repeated." placeholder:"IP"`
	NATBlock   []string `name:"nat-block" help:"With --network nat: addresses that functions must not reach, besides this host, each other and link-local ones. May be repeated." placeholder:"CIDR"`
	NATSubnet  string   `name:"nat-subnet" help:"With --network nat: the functions' own addresses, two for each sandbox. This host must reach nothing else by them; servers that share it may share a range." default:"198.18.0.0/16" placeholder:"CIDR"`
}

// outbound reads the flags: how functions get out, and who resolves names for
// them. Both are nil where they don't get out.
func (f networkFlags) outbound(log *slog.Logger) (*network.Config, *lookup.Forwarder, error) {
	if f.Network != "nat" {
		for flag, given := range map[string]bool{"--nameserver": len(f.Nameserver) > 0, "--nat-block": len(f.NATBlock) > 0} {
			if given {
				return nil, nil, thaw.Errorf("serve", thaw.Invalid, "%s needs --network nat: functions have no network otherwise", flag)
			}
		}
		log.Info("functions have no network; --network nat gives them one")
		return nil, nil, nil
	}
	var config network.Config
	var err error
	if config.Subnet, err = netip.ParsePrefix(f.NATSubnet); err != nil {
		return nil, nil, thaw.Errorf("serve", thaw.Invalid, "--nat-subnet %s: write ADDRESS/BITS, as 198.18.0.0/16", f.NATSubnet)
	}
	for _, text := range f.NATBlock {
		prefix, err := netip.ParsePrefix(text)
		if address, notPrefix := netip.ParseAddr(text); notPrefix == nil {
			prefix, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			return nil, nil, thaw.Errorf("serve", thaw.Invalid, "--nat-block %s: write ADDRESS or ADDRESS/BITS, as 10.0.0.0/8", text)
		}
		config.Blocked = append(config.Blocked, prefix)
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
	log.Info("functions reach the network beyond this host, over IPv4", "nameservers", names.Servers(), "blocked", f.NATBlock)
	return &config, names, nil
}
