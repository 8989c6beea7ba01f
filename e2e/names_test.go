// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/dnstest"
	"thaw.dev/thaw/internal/testkit"
)

// TestNames resolves names in functions, by glibc and by Go's own resolver, in both
// kinds of sandbox: by a resolver on the host's loopback, as systemd-resolved and
// dnsmasq are, by whatever the host's file names after a change, and by servers
// that a flag names.
func TestNames(t *testing.T) {
	for _, kind := range []string{"jail", "oci"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "oci" {
				testkit.RequireTool(t, "crun")
			}
			testkit.RequireRoot(t)
			first, second := nameServer(t, "127.53.0.1"), nameServer(t, "127.53.0.2")
			hostFile := filepath.Join(t.TempDir(), "resolv.conf")
			name := func(server string) {
				t.Helper()
				text := "search corp.test\noptions ndots:2\nnameserver " + server + "\n"
				if err := os.WriteFile(hostFile, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			name("127.53.0.1")
			var w *world
			withHostFile(t, hostFile, func() { w = newWorld(t, "--network", "nat", "--sandbox", kind) })
			out := newOutside(t)
			host, port, _ := strings.Cut(out.listener.Addr().String(), ":")
			go acceptAll(out)
			names := map[string][]netip.Addr{"outside.test": {netip.MustParseAddr(host)}, "db.corp.test": {netip.MustParseAddr(host)}, "huge.test": addresses(250)}
			first.SetNames(names)

			client := w.create(t.Context(), "glibc", w.push("py-hello-probe:1", "py:v1"))
			w.create(t.Context(), "static", w.push("probe:1", "probe:v1"))
			for name, count := range map[string]int{"outside.test": 1, "db": 1, "huge.test": 250} {
				if got := getaddrinfo(t, client, name); len(got) != count || (count == 1 && got[0] != host) {
					t.Errorf("glibc: %s is %v", name, got)
				}
			}
			if got, failed := dial(t, client, "static", "outside.test:"+port); failed != "" {
				t.Errorf("Go: dial by name: %s", got)
			}
			// The host itself stays out of reach, its resolver included.
			for _, closed := range []string{"127.53.0.1:53", out.host.Addr().String() + ":53"} {
				if got, failed := dial(t, client, "static", closed); failed == "" {
					t.Errorf("dial to %s: %s", closed, got)
				}
			}

			name("127.53.0.2")
			second.SetNames(map[string][]netip.Addr{"moved.test": {netip.MustParseAddr(host)}})
			if got := getaddrinfo(t, client, "moved.test"); len(got) != 1 {
				t.Errorf("after the host's file changed: %v", got)
			}
			name("127.53.0.3") // where nobody answers
			if got := getaddrinfo(t, client, "outside.test"); got != nil {
				t.Errorf("without a name server: %v", got)
			}
			w.wantLogged("glibc", `was not resolved: no name server answers; the operator of this server names others with: thaw serve --nameserver IP`)

			given := newWorld(t, "--network", "nat", "--sandbox", kind, "--nameserver", "127.53.0.3", "--nameserver", "127.53.0.1", "--nat-subnet", "198.19.0.0/16")
			client = given.create(t.Context(), "glibc", given.push("py-hello-probe:1", "py:v1"))
			if got := getaddrinfo(t, client, "outside.test"); len(got) != 1 {
				t.Errorf("by --nameserver: %v", got)
			}
		})
	}
}

// TestNamesWithoutNetwork: where functions have no network, the log of the first
// one that looks up a name says so, once, and who can change it.
func TestNamesWithoutNetwork(t *testing.T) {
	for _, kind := range []string{"jail", "oci"} {
		if kind == "oci" {
			testkit.RequireTool(t, "crun")
		}
		w := newWorld(t, "--sandbox", kind)
		client := w.create(t.Context(), "glibc", w.push("py-hello-probe:1", "py:v1"))
		for _, name := range []string{"first.test", "second.test"} {
			if got := getaddrinfo(t, client, name); got != nil {
				t.Errorf("%s: %s is %v", kind, name, got)
			}
		}
		w.wantLogged("glibc", `[thaw] "first.test" was not resolved: functions have no network on this server; its operator turns it on with: thaw serve --network nat`)
		if text, err := w.Thaw(t.Context(), "logs", "glibc"); err != nil || strings.Contains(text, "second.test") {
			t.Errorf("%s: told twice: %v\n%s", kind, err, text)
		}
		if !strings.Contains(w.Log.String(), "functions have no network") {
			t.Errorf("%s: the server does not say that functions have no network", kind)
		}
	}
}

// TestEgress: --deny-egress closes what functions would reach, --nat-block is its
// old name, and the zone's own servers are closed unless --allow-egress names them.
func TestEgress(t *testing.T) {
	testkit.RequireRoot(t)
	out := newOutside(t)
	go acceptAll(out)
	server := out.listener.Addr().String()
	zone := server
	for i := range 4 { // which are down
		zone += fmt.Sprintf(",%s:%d", out.host.Addr().Next(), i+1)
	}
	for _, c := range []struct {
		flags     []string
		collector string // of traces
		open      bool
	}{
		{flags: []string{"--deny-egress", "203.0.113.0/24", "--deny-egress", server}},
		{flags: []string{"--nat-block", "203.0.113.0/24", "--nat-block", out.host.Masked().String()}},
		{flags: []string{"--deny-egress", "0.0.0.0/0", "--allow-egress", server}, open: true},
		{flags: []string{"--l2", zone, "--allow-egress", out.host.Masked().String()}},
		{flags: []string{"--l2", zone, "--allow-egress", server}, open: true},
		{collector: "http://" + server},
	} {
		t.Run(strings.Join(c.flags, " ")+c.collector, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.collector)
			w := newWorld(t, append([]string{"--network", "nat"}, c.flags...)...)
			client := w.create(t.Context(), "inside", w.push("probe:1", "probe:v1"))
			if got, failed := dial(t, client, "inside", server); (failed == "") != c.open {
				t.Errorf("dial: %s %s, want open: %t", failed, got, c.open)
			}
		})
	}
}

// nameServer starts a name server on port 53 of an address of the loopback.
func nameServer(t *testing.T, address string) *dnstest.Server {
	t.Helper()
	s, _, err := dnstest.Start(address+":53", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// withHostFile calls f on a thread in whose mount namespace, and in that of what
// it starts, a file stands for /etc/resolv.conf.
func withHostFile(t *testing.T, file string, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}
		if err == nil {
			err = unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, "")
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func acceptAll(o outside) {
	for {
		conn, err := o.listener.Accept()
		if err != nil {
			return
		}
		_ = conn.Close()
	}
}

func addresses(n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
	}
	return list
}

// getaddrinfo has a function with glibc resolve a name, and returns the IPv4
// addresses; none where it failed.
func getaddrinfo(t *testing.T, client *lambda.Client, name string) []string {
	t.Helper()
	const program = `import json, socket, sys
print(json.dumps(sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET)})))`
	event, err := json.Marshal(map[string]any{"run": []string{"/usr/bin/python3", "-c", program, name}})
	if err != nil {
		t.Fatal(err)
	}
	payload, failed := invoke(t.Context(), t, client, "glibc", string(event))
	var ran struct{ Output, Errors, Exit string }
	if err := json.Unmarshal([]byte(payload), &ran); err != nil || failed != "" {
		t.Fatalf("getaddrinfo %s: %s %v %s", name, failed, err, payload)
	}
	if ran.Exit != "" {
		if !strings.Contains(ran.Errors, "gaierror") {
			t.Fatalf("getaddrinfo %s: %s", name, ran.Errors)
		}
		return nil
	}
	var got []string
	if err := json.Unmarshal([]byte(ran.Output), &got); err != nil {
		t.Fatal(fmt.Errorf("%w in %q", err, ran.Output))
	}
	return got
}

// wantLogged fails unless a function's log holds a text.
func (w *world) wantLogged(function, text string) {
	w.t.Helper()
	got, err := w.Thaw(w.t.Context(), "logs", function)
	if err != nil || !strings.Contains(got, text) {
		w.t.Errorf("the log of %s lacks %q: %v\n%s", function, text, err, got)
	}
}
