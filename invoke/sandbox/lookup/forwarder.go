// SPDX-License-Identifier: Apache-2.0

// Package lookup answers what sandboxes ask a name server. The sockets are in
// the sandbox's own network namespace, on its loopback, at the address that
// resolvers ask by default; whoever answers is outside. So a function resolves
// names by whatever the host resolves them by, a resolver on the host's loopback
// included, without a way to the host: all that passes is one question and its
// answer.
//
// Where functions have no network, each question is refused at once, and the
// function's log says why.
package lookup

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

const (
	// HostFile is where the host names its name servers.
	HostFile = "/etc/resolv.conf"

	// patience bounds the search for an answer: resolvers ask again after 5 s.
	patience = 4500 * time.Millisecond

	// hedge is how long one name server may take until the next is asked too.
	hedge = 700 * time.Millisecond

	// leastHold is how long a question counts as under way at least: the host's
	// table of connections remembers each for half a minute, answered or not.
	leastHold = time.Second

	// maxForwards bounds the questions of all sandboxes together that wait for
	// an answer, each with a socket for each name server.
	maxForwards = 1024

	// maxHostFile bounds what is read of the host's file.
	maxHostFile = 64 << 10

	// complainEvery is how often the operator is told at most that no name
	// server answers.
	complainEvery = time.Minute

	// maxDatagram is more than resolvers let a name server send them by UDP.
	maxDatagram = 8 << 10

	dnsPort = 53
)

// Forwarder asks the host's name servers. A nil Forwarder refuses every
// question. It is safe for concurrent use.
type Forwarder struct {
	servers []netip.Addr // in place of those that the host names
	file    string
	port    uint16
	log     *slog.Logger
	slots   *fair.Pool // of questions under way
	least   time.Duration

	complained atomic.Int64 // when, in nanoseconds
}

// NewForwarder returns a forwarder to servers, or, without any, to those of the
// host. The host's file is read for each question: what DHCP or a VPN changes
// there holds at once.
func NewForwarder(servers []netip.Addr, log *slog.Logger) *Forwarder {
	return newForwarder(servers, HostFile, log)
}

func newForwarder(servers []netip.Addr, file string, log *slog.Logger) *Forwarder {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{servers: servers, file: file, port: dnsPort, log: log, least: leastHold,
		slots: fair.New(fair.Options{Name: "look-ups", Size: maxForwards, KeepFree: true})}
}

// Pools returns what sandboxes share.
func (f *Forwarder) Pools() []*fair.Pool { return []*fair.Pool{f.slots} }

// ResolvConf is the /etc/resolv.conf of a sandbox: the name server is the
// sandbox's own loopback, search domains and options are the host's.
func (f *Forwarder) ResolvConf() string {
	const own = "nameserver 127.0.0.1\n"
	if f == nil {
		// Some resolvers, musl's among them, pass over a refusal and wait.
		return own + "options timeout:1 attempts:1\n"
	}
	return own + readHost(f.file).rest
}

// Servers returns the name servers that questions go to now.
func (f *Forwarder) Servers() []netip.Addr {
	if len(f.servers) > 0 {
		return f.servers
	}
	if named := readHost(f.file).servers; len(named) > 0 {
		return named
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})} // resolv.conf(5)
}

// hostConfig is what the host's resolv.conf says.
type hostConfig struct {
	servers []netip.Addr
	rest    string // search domains and options, as lines
}

// readHost reads the host's resolv.conf as resolv.conf(5) has it: of search and
// domain the last counts. A file that can't be read says nothing.
func readHost(path string) hostConfig {
	var c hostConfig
	file, err := os.Open(path)
	if err != nil {
		return c
	}
	defer file.Close()
	text, _ := io.ReadAll(io.LimitReader(file, maxHostFile))
	var search, options string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				c.servers = append(c.servers, a)
			}
		case "search", "domain":
			search = strings.Join(fields, " ") + "\n"
		case "options":
			options += strings.Join(fields, " ") + "\n"
		}
	}
	c.rest = search + options
	return c
}

// answer is what a name server said.
type answer struct {
	message []byte
	err     error
}

// ask asks one name server after the other: the next one when one failed, or
// has not answered for a moment. The first answer that is one counts. network
// is udp or tcp, owner who asks. The error tells what each server said, for the
// operator.
func (f *Forwarder) ask(ctx context.Context, owner, network string, question []byte) ([]byte, error) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release, err := f.slots.Acquire(ctx, owner, 1)
	if err != nil {
		return nil, thaw.Errorf("look up", thaw.Throttled, "too many questions are under way: %w", err)
	}
	begun := time.Now()
	defer func() { time.AfterFunc(f.least-time.Since(begun), release) }()
	servers := f.Servers()
	answers := make(chan answer, len(servers))
	asked, answered := 0, 0
	next := time.NewTimer(0)
	defer next.Stop()
	var refusal []byte
	var failed error
	for answered < len(servers) {
		select {
		case <-next.C:
			if asked < len(servers) {
				server := servers[asked]
				asking.Go(func() {
					message, err := exchange(ctx, network, netip.AddrPortFrom(server, f.port), question)
					answers <- answer{message, err}
				})
				asked++
				next.Reset(min(hedge, patience/time.Duration(len(servers)+1)))
			}
		case a := <-answers:
			answered++
			switch {
			case a.err != nil:
				failed = errors.Join(failed, a.err)
			case conclusive(a.message):
				return a.message, nil
			default:
				refusal = a.message
			}
			next.Reset(0)
		case <-ctx.Done():
			answered = len(servers)
			failed = errors.Join(failed, ctx.Err())
		}
	}
	if refusal != nil {
		return refusal, nil
	}
	return nil, cmp.Or(failed, ctx.Err())
}

// conclusive reports whether a name server's message answers the question. One
// that failed or does not serve us may stand beside one that does.
func conclusive(message []byte) bool {
	code := dnsmessage.RCode(message[3] & 0xf)
	return code == dnsmessage.RCodeSuccess || code == dnsmessage.RCodeNameError
}

// exchange asks one name server. Each question has a socket, and with it a port,
// of its own: to whom the answer belongs is not to be guessed.
func exchange(ctx context.Context, network string, server netip.AddrPort, question []byte) ([]byte, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		if err := writeFramed(conn, question); err != nil {
			return nil, err
		}
		message, err := readFramed(conn)
		if err == nil && !answers(message, question) {
			err = thaw.Errorf("name server "+server.String(), thaw.Unavailable, "it answers something else")
		}
		return message, err
	}
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	buffer := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		if answers(buffer[:n], question) {
			return buffer[:n], nil
		}
	}
}

// answers reports whether a message is an answer with the question's id.
func answers(message, question []byte) bool {
	const headerBytes = 12
	return len(message) >= headerBytes && message[0] == question[0] && message[1] == question[1] && message[2]&0x80 != 0
}

// writeFramed writes a message as TCP carries it, behind its length.
func writeFramed(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}

func readFramed(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

// complain tells the operator, now and then, that no name server answers.
func (f *Forwarder) complain(err error) {
	now := time.Now().UnixNano()
	last := f.complained.Load()
	if now-last < int64(complainEvery) || !f.complained.CompareAndSwap(last, now) {
		return
	}
	f.log.Warn("functions can't resolve names: no name server answers; name others with --nameserver, or mend "+f.file,
		"servers", f.Servers(), "err", err)
}
