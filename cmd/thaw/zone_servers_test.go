// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"testing"
)

// TestOwnServers: what is closed to functions is all that the server's flags and
// environment name, and some of it also where the rest can't be looked up.
func TestOwnServers(t *testing.T) {
	at := func(texts ...string) (list []netip.AddrPort) {
		for _, text := range texts {
			list = append(list, netip.MustParseAddrPort(text))
		}
		return list
	}
	for _, c := range []struct {
		l2, origin, traces string
		want               []netip.AddrPort
		fails              bool
	}{
		{},
		{origin: "/a/folder"},
		{origin: "s3://bucket/prefix?region=x"}, // AWS's own, which functions use too
		{l2: "10.0.0.1:11211,10.0.0.2:11212", want: at("10.0.0.1:11211", "10.0.0.2:11212")},
		{origin: "s3://bucket?endpoint=http://10.0.0.3:9000", want: at("10.0.0.3:9000")},
		{origin: "s3://bucket?endpoint=http://10.0.0.3", want: at("10.0.0.3:80")},
		{origin: "azblob://bucket?account=x&endpoint=https://10.0.0.3/y", want: at("10.0.0.3:443")},
		{traces: "http://10.0.0.4:4318/v1", want: at("10.0.0.4:4318")},
		{l2: "[::ffff:10.0.0.1]:11211,name.invalid:11211", want: at("10.0.0.1:11211"), fails: true},
	} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.traces)
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
		serve := &serveCmd{L2: c.l2, originFlags: originFlags{Origin: c.origin}}
		got, err := serve.ownServers(t.Context())
		if !slices.Equal(got, c.want) || (err != nil) != c.fails {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}
