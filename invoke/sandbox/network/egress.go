// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"thaw.dev/thaw"
)

// Range is a range of IPv4 addresses, at one port or, with port 0, at all.
type Range struct {
	Prefix netip.Prefix
	Port   uint16
}

// ParseRange reads ADDRESS or ADDRESS/BITS, with :PORT behind it or without.
func ParseRange(text string) (Range, error) {
	const op = "read a range"
	if strings.Count(text, ":") > 1 {
		return Range{}, thaw.Errorf(op, thaw.Invalid, "%q is IPv6, which functions do not have: nothing of it is open, or needs to be closed", text)
	}
	addresses, port, hasPort := strings.Cut(text, ":")
	var r Range
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Range{}, thaw.Errorf(op, thaw.Invalid, "%q: the port is a number from 1 to 65535", text)
		}
		r.Port = uint16(n)
	}
	prefix, err := netip.ParsePrefix(addresses)
	if address, single := netip.ParseAddr(addresses); single == nil {
		prefix, err = address.Prefix(address.BitLen())
	}
	if err != nil {
		return Range{}, thaw.Errorf(op, thaw.Invalid, "%q: write ADDRESS or ADDRESS/BITS, and :PORT behind it for one port, as 10.1.0.0/16 or 10.1.2.3:5432", text)
	}
	r.Prefix = prefix.Masked()
	return r, nil
}

// String is what ParseRange reads.
func (r Range) String() string {
	text := r.Prefix.String()
	if r.Prefix.IsSingleIP() {
		text = r.Prefix.Addr().String()
	}
	if r.Port > 0 {
		text += ":" + strconv.Itoa(int(r.Port))
	}
	return text
}

// never are the ranges that no sandbox reaches, whatever the operator opens.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
}

// Private are the ranges that are closed unless the operator opens them: those
// of RFC 1918, of carriers (RFC 6598), of protocols (RFC 6890) and of tests of
// network devices (RFC 2544), where the sandboxes themselves are.
var Private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
}

// rule says whether a range is open.
type rule struct {
	Range
	open bool
	own  bool // of thaw, not the operator's
}

// ordered returns the rules so that the first that holds an address decides:
// the smaller range before the larger one, one port before all; of equal ones
// what the operator closes, what the operator opens, and last what thaw closes.
func ordered(allow, deny []Range) []rule {
	var rules []rule
	for _, r := range deny {
		rules = append(rules, rule{Range: r})
	}
	for _, r := range allow {
		rules = append(rules, rule{Range: r, open: true})
	}
	for _, p := range Private {
		rules = append(rules, rule{Range: Range{Prefix: p}, own: true})
	}
	rank := func(r rule) int {
		switch {
		case r.own:
			return 2
		case r.open:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(rules, func(a, b rule) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), cmp.Compare(min(b.Port, 1), min(a.Port, 1)), cmp.Compare(rank(a), rank(b)))
	})
	return rules
}

// check refuses ranges that can't be what the operator means.
func (c Config) check() error {
	const op = "network: NAT"
	for _, r := range slices.Concat(c.Allow, c.Deny) {
		if !r.Prefix.Addr().Is4() {
			return thaw.Errorf(op, thaw.Invalid, "range %s is not IPv4", r)
		}
	}
	for _, r := range c.Allow {
		for _, n := range never {
			if n.Bits() <= r.Prefix.Bits() && n.Contains(r.Prefix.Addr()) {
				return thaw.Errorf(op, thaw.Invalid, "%s can't be opened: it is in %s, which no function reaches", r, n)
			}
		}
	}
	return nil
}
