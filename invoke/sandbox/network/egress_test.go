// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"testing"

	"thaw.dev/thaw"
)

func TestParseRange(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3": "10.1.2.3", "10.1.2.3/32": "10.1.2.3", "10.1.2.3/8": "10.0.0.0/8", "10.1.2.3:80": "10.1.2.3:80", "10.0.0.0/8:443": "10.0.0.0/8:443", "0.0.0.0/0": "0.0.0.0/0",
	} {
		r, err := ParseRange(text)
		if err != nil || r.String() != want {
			t.Errorf("%s is %s, %v, not %s", text, r, err, want)
		}
	}
	for _, text := range []string{"", "x", "10.0.0.0/33", "10.1.2.3:0", "10.1.2.3:65536", "10.1.2.3:", ":80", "10.1.2:80", "fd00::/8", "[::1]:80", "::ffff:10.0.0.1", "10.1.2.3:80/32"} {
		if r, err := ParseRange(text); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%q is %s, %v", text, r, err)
		}
	}
}

// TestWhatCannotBeOpened: a flag that opens nothing is refused, not ignored.
func TestWhatCannotBeOpened(t *testing.T) {
	for _, text := range []string{"127.0.0.1", "169.254.169.254:80", "224.0.0.0/4", "240.0.0.0/8"} {
		if _, err := OpenNAT("test", Config{Allow: ranges(t, text)}); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%s: %v", text, err)
		}
	}
	six := Range{Prefix: netip.MustParsePrefix("fd00::/8")}
	if _, err := OpenNAT("test", Config{Deny: []Range{six}}); thaw.KindOf(err) != thaw.Invalid {
		t.Errorf("IPv6: %v", err)
	}
}

// TestShare: all sandboxes together have at most half of the host's table.
func TestShare(t *testing.T) {
	for _, c := range []struct{ table, sandboxes, want int }{
		{262144, 256, 512}, {262144, 16, 1024}, {65536, 1000, 32}, {65536, 100000, 16},
	} {
		if got := share(c.table, c.sandboxes); got != c.want {
			t.Errorf("%d sandboxes of a table of %d have %d each, want %d", c.sandboxes, c.table, got, c.want)
		}
	}
}
