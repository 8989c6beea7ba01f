// SPDX-License-Identifier: Apache-2.0

package lookup

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"thaw.dev/thaw/internal/dnstest"
)

var (
	alpha = netip.MustParseAddr("192.0.2.1")
	six   = netip.MustParseAddr("2001:db8::1")
)

// many are more addresses than fit into a datagram.
func many(n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
	}
	return list
}

// names starts a name server on an address of the loopback; "" takes any port.
func names(t *testing.T, address, port string) (*dnstest.Server, netip.AddrPort) {
	t.Helper()
	s, at, err := dnstest.Start(net.JoinHostPort(address, port), map[string][]netip.Addr{
		"a.test": {alpha, six}, "large.test": many(60), "huge.test": many(250), "db.corp.test": {alpha},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, at
}

// told is what a sandbox's log was told.
type told struct {
	times atomic.Int32
	name  string
	why   error
}

func (s *told) tell(name string, why error) {
	s.name, s.why = name, why
	s.times.Add(1)
}

// sandbox serves f as to a sandbox, and returns Go's own resolver pointed there
// and the address.
func sandbox(t *testing.T, f *Forwarder, tell func(string, error)) (*net.Resolver, string) {
	t.Helper()
	return sandboxOf(t, f, "", tell)
}

func sandboxOf(t *testing.T, f *Forwarder, owner string, tell func(string, error)) (*net.Resolver, string) {
	t.Helper()
	udp, tcp, err := dnstest.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := f.Serve(Sockets{udp, tcp}, owner, tell)
	t.Cleanup(server.Close)
	at := udp.LocalAddr().String()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}}, at
}

func hostFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func forwarder(file string, port uint16, servers ...netip.Addr) *Forwarder {
	f := newForwarder(servers, file, nil)
	f.port = port
	return f
}

func lookUp(t *testing.T, r *net.Resolver, name string) []netip.Addr {
	t.Helper()
	got, err := r.LookupNetIP(t.Context(), "ip", name+".")
	if err != nil {
		t.Fatalf("look up %s: %v", name, err)
	}
	for i := range got {
		got[i] = got[i].Unmap()
	}
	slices.SortFunc(got, netip.Addr.Compare)
	return got
}

// TestForwards resolves names of both families, answers larger than 512 bytes by
// UDP and larger than that by TCP, and passes on that there is no such name.
func TestForwards(t *testing.T) {
	server, at := names(t, "127.0.0.1", "0")
	var s told
	r, _ := sandbox(t, forwarder("", at.Port(), at.Addr()), s.tell)
	if got := lookUp(t, r, "a.test"); !slices.Equal(got, []netip.Addr{alpha, six}) {
		t.Errorf("a.test is %v", got)
	}
	if got := lookUp(t, r, "large.test"); len(got) != 60 || server.Asked("tcp", "large.test") != 0 {
		t.Errorf("large.test has %d addresses, asked by TCP %d times", len(got), server.Asked("tcp", "large.test"))
	}
	if got := lookUp(t, r, "huge.test"); len(got) != 250 || server.Asked("tcp", "huge.test") == 0 {
		t.Errorf("huge.test has %d addresses, asked by TCP %d times", len(got), server.Asked("tcp", "huge.test"))
	}
	_, err := r.LookupNetIP(t.Context(), "ip", "none.test.")
	if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsNotFound {
		t.Errorf("none.test: %v", err)
	}
	if s.times.Load() != 0 {
		t.Errorf("told %s: %v", s.name, s.why)
	}
}

// TestNextServer: a name server that is down, silent, or can't is passed over.
func TestNextServer(t *testing.T) {
	_, good := names(t, "127.0.0.1", "0")
	port := good.Port()
	silent, err := net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for address, code := range map[string]dnsmessage.RCode{"127.0.0.4": dnsmessage.RCodeServerFailure, "127.0.0.5": dnsmessage.RCodeRefused} {
		bad, _ := names(t, address, good.String()[len("127.0.0.1:"):])
		bad.Fail(code)
	}
	for _, first := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"} {
		r, _ := sandbox(t, forwarder("", port, netip.MustParseAddr(first), good.Addr()), nil)
		if got := lookUp(t, r, "a.test"); len(got) != 2 {
			t.Errorf("behind %s: %v", first, got)
		}
	}
}

// TestNoServerAnswers tells the sandbox's log once, and answers at once where
// nobody listens.
func TestNoServerAnswers(t *testing.T) {
	_, free := names(t, "127.0.0.1", "0")
	var s told
	r, at := sandbox(t, forwarder("", free.Port(), netip.MustParseAddr("127.0.0.2")), s.tell)
	for _, name := range []string{"first.test.", "second.test."} {
		if _, err := r.LookupNetIP(t.Context(), "ip", name); err == nil {
			t.Errorf("%s was resolved", name)
		}
	}
	if s.times.Load() != 1 || !errors.Is(s.why, ErrSilent) || s.name != "first.test" {
		t.Errorf("told %d times of %s: %v", s.times.Load(), s.name, s.why)
	}
	if code := exchangeCode(t, at, question(t, 0, "a.test.", dnsmessage.TypeA, dnsmessage.ClassINET)); code != dnsmessage.RCodeServerFailure {
		t.Errorf("answered %v", code)
	}
}

// TestHostFile: the host's name servers are those that its file names now.
func TestHostFile(t *testing.T) {
	_, at := names(t, "127.0.0.1", "0")
	file := hostFile(t, "nameserver 127.0.0.9\n")
	r, _ := sandbox(t, forwarder(file, at.Port()), nil)
	if _, err := r.LookupNetIP(t.Context(), "ip", "a.test."); err == nil {
		t.Fatal("resolved by a server that is not there")
	}
	if err := os.WriteFile(file, []byte("# new\nnameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lookUp(t, r, "a.test")
}

func TestReadsHostFile(t *testing.T) {
	all := "domain old.test\n; comment\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver ::1 # stub\nnameserver 10.0.0.4\nnameserver 10.0.0.5\n" +
		"nameserver name.test\nsearch corp.test  example.test\noptions ndots:2 edns0\noptions rotate\nnonsense\n"
	for _, row := range []struct {
		text, conf string
		servers    []string
	}{
		{all, "nameserver 127.0.0.1\nsearch corp.test example.test\noptions ndots:2 edns0\noptions rotate\n",
			[]string{"10.0.0.1", "fe80::1%eth0", "::1", "10.0.0.4", "10.0.0.5"}},
		{"", "nameserver 127.0.0.1\n", []string{"127.0.0.1"}},
	} {
		f := newForwarder(nil, hostFile(t, row.text), nil)
		var got []string
		for _, a := range f.Servers() {
			got = append(got, a.String())
		}
		if !slices.Equal(got, row.servers) || f.ResolvConf() != row.conf {
			t.Errorf("of %q: servers %q, resolv.conf %q", row.text, got, f.ResolvConf())
		}
		given := newForwarder([]netip.Addr{alpha}, f.file, nil)
		if got := given.Servers(); len(got) != 1 || got[0] != alpha || given.ResolvConf() != row.conf {
			t.Errorf("with a server given: %v, %q", got, given.ResolvConf())
		}
	}
	absent := newForwarder(nil, filepath.Join(t.TempDir(), "none"), nil)
	if got := absent.Servers(); len(got) != 1 || got[0].String() != "127.0.0.1" {
		t.Errorf("without a file: %v", got)
	}
}

// TestOff: without a network a look-up is refused at once, and said why, once.
func TestOff(t *testing.T) {
	var s told
	_, at := sandbox(t, nil, s.tell)
	for _, name := range []string{"first.test.", "second.test."} {
		if code := exchangeCode(t, at, question(t, 0, name, dnsmessage.TypeA, dnsmessage.ClassINET)); code != dnsmessage.RCodeRefused {
			t.Errorf("%s: answered %v", name, code)
		}
	}
	if s.times.Load() != 1 || !errors.Is(s.why, ErrOff) || s.name != "first.test" {
		t.Errorf("told %d times of %s: %v", s.times.Load(), s.name, s.why)
	}
}

// TestOnlyQuestionsPass: to a resolver on the host's loopback nothing comes from a
// sandbox but the question of a look-up.
func TestOnlyQuestionsPass(t *testing.T) {
	server, at := names(t, "127.0.0.1", "0")
	_, inside := sandbox(t, forwarder("", at.Port(), at.Addr()), nil)
	const update, incremental, chaos, keys, mail = 5, 251, 3, 249, 253
	for _, row := range []struct {
		what  string
		bytes []byte
		code  dnsmessage.RCode
	}{
		{"an update", question(t, update, "a.test.", dnsmessage.TypeSOA, dnsmessage.ClassINET), dnsmessage.RCodeNotImplemented},
		{"a transfer", question(t, 0, "a.test.", dnsmessage.TypeAXFR, dnsmessage.ClassINET), dnsmessage.RCodeRefused},
		{"an incremental transfer", question(t, 0, "a.test.", incremental, dnsmessage.ClassINET), dnsmessage.RCodeRefused},
		{"a negotiation of keys", question(t, 0, "a.test.", keys, dnsmessage.ClassINET), dnsmessage.RCodeRefused},
		{"mail boxes", question(t, 0, "a.test.", mail, dnsmessage.ClassINET), dnsmessage.RCodeRefused},
		{"a version", question(t, 0, "version.bind.", dnsmessage.TypeTXT, chaos), dnsmessage.RCodeRefused},
		{"no question", question(t, 0, "", 0, 0), dnsmessage.RCodeFormatError},
		{"half a question", question(t, 0, "a.test.", dnsmessage.TypeA, dnsmessage.ClassINET)[:15], dnsmessage.RCodeFormatError},
	} {
		if code := exchangeCode(t, inside, row.bytes); code != row.code {
			t.Errorf("%s was answered %v, want %v", row.what, code, row.code)
		}
	}
	for _, name := range []string{"a.test", "version.bind"} {
		if n := server.Asked("udp", name) + server.Asked("tcp", name); n != 0 {
			t.Errorf("%s came through %d times", name, n)
		}
	}
}

// TestBounds: a sandbox has so many questions under way and no more, and its end
// waits for none of them.
func TestBounds(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	at := netip.MustParseAddrPort(silent.LocalAddr().String())
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := forwarder("", at.Port(), at.Addr()).Serve(Sockets{udp, tcp}, "", func(name string, why error) { t.Errorf("told of %s: %v", name, why) })
	conn, err := net.Dial("udp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 * maxWaiting {
		if _, err := conn.Write(question(t, 0, "a.test.", dnsmessage.TypeA, dnsmessage.ClassINET)); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, 512)
	for got := 0; ; got++ {
		_ = silent.SetReadDeadline(time.Now().Add(time.Second))
		if _, _, err := silent.ReadFrom(buffer); err != nil {
			if got != maxWaiting {
				t.Errorf("%d questions are under way, want %d", got, maxWaiting)
			}
			break
		}
	}
	server.Close()
}

// TestTurnsOfTenants: whoever asks for what nobody answers, from as many sandboxes
// as it likes, keeps others' questions from nothing.
func TestTurnsOfTenants(t *testing.T) {
	server, at := names(t, "127.0.0.1", "0")
	server.Mute("slow.test")
	f := forwarder("", at.Port(), at.Addr())
	// More wait than could be answered while one of them has patience.
	for f.slots.Usage().Waiting < 2*maxForwards {
		_, inside := sandboxOf(t, f, "greedy", nil)
		conn, err := net.Dial("udp", inside)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 3 * maxWaiting { // the rest when these have been given up
			if _, err := conn.Write(question(t, 0, "slow.test.", dnsmessage.TypeA, dnsmessage.ClassINET)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, owner := range []string{"other", "third"} {
		if _, inside := sandboxOf(t, f, owner, nil); exchangeCode(t, inside, question(t, 0, "a.test.", dnsmessage.TypeA, dnsmessage.ClassINET)) != dnsmessage.RCodeSuccess {
			t.Errorf("the question of %s is not answered: %+v", owner, f.slots.Usage())
		}
	}
}

// TestAnsweredQuestionsHoldTheirPlace: a name server that answers at once does not
// let a function open the host's connections as fast as it can ask.
func TestAnsweredQuestionsHoldTheirPlace(t *testing.T) {
	_, at := names(t, "127.0.0.1", "0")
	f := forwarder("", at.Port(), at.Addr())
	f.least = time.Hour
	_, inside := sandbox(t, f, nil)
	const asked = 5
	for range asked {
		if code := exchangeCode(t, inside, question(t, 0, "a.test.", dnsmessage.TypeA, dnsmessage.ClassINET)); code != dnsmessage.RCodeSuccess {
			t.Fatalf("answered %v", code)
		}
	}
	if held := f.slots.Usage().Held; held != asked {
		t.Errorf("%d questions hold %d places", asked, held)
	}
	brief := forwarder("", at.Port(), at.Addr())
	brief.least = 0
	_, inside = sandbox(t, brief, nil)
	if code := exchangeCode(t, inside, question(t, 0, "a.test.", dnsmessage.TypeA, dnsmessage.ClassINET)); code != dnsmessage.RCodeSuccess {
		t.Fatalf("answered %v", code)
	}
	for brief.slots.Usage().Held != 0 { // it is given back
		time.Sleep(time.Millisecond)
	}
}

// question makes a message with one question, or with none for no name.
// TestPace: a sandbox that asks without end is answered at a bounded rate.
func TestPace(t *testing.T) {
	_, at := sandbox(t, nil, nil)
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	message := question(t, 0, "a.test.", dnsmessage.TypeA, dnsmessage.ClassINET)
	const more = perSecond / 4
	begin, answer := time.Now(), make([]byte, maxQuestion)
	for i := range most + more {
		if _, err := conn.Write(message); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(answer); err != nil {
			t.Fatalf("question %d: %v", i, err)
		}
	}
	if allowed := most + 1 + perSecond*time.Since(begin).Seconds(); most+more > allowed {
		t.Errorf("%d questions were answered where %.0f may be", most+more, allowed)
	}
}

func question(t *testing.T, opCode dnsmessage.OpCode, name string, kind dnsmessage.Type, class dnsmessage.Class) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, OpCode: opCode, RecursionDesired: true}}
	if name != "" {
		m.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: class}}
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// exchangeCode sends a message by UDP and returns the code of its answer.
func exchangeCode(t *testing.T, at string, message []byte) dnsmessage.RCode {
	t.Helper()
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // a guard against hanging
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	var p dnsmessage.Parser
	header, err := p.Start(buffer[:n])
	if err != nil || header.ID != 4711 || !header.Response {
		t.Fatalf("answer %+v, %v", header, err)
	}
	return header.RCode
}
