// SPDX-License-Identifier: Apache-2.0

package lookup

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

const (
	// maxWaiting bounds a sandbox's questions that wait for an answer; further
	// ones wait in its socket, and are lost where that is full.
	maxWaiting = 32

	// maxConns bounds its connections, and connIdle how long one may be silent.
	maxConns = 8
	connIdle = 10 * time.Second

	// A sandbox asks perSecond questions a second in the long run, and most at once;
	// more wait in its sockets.
	perSecond = 100
	most      = 1000

	acceptPause = 100 * time.Millisecond

	// maxQuestion is more than a question of 255 bytes and its options need.
	maxQuestion = 2048
)

// The reasons that a sandbox's first failing look-up is told with.
var (
	ErrOff    = errors.New("functions have no network on this server; its operator turns it on with: thaw serve --network nat")
	ErrSilent = errors.New("no name server answers; the operator of this server names others with: thaw serve --nameserver IP")
)

// Sockets are those of a sandbox's loopback that questions come to.
type Sockets struct {
	UDP net.PacketConn
	TCP net.Listener
}

// Close closes both. Closing none, or again, is no error.
func (s Sockets) Close() {
	if s.UDP != nil {
		_ = s.UDP.Close()
	}
	if s.TCP != nil {
		_ = s.TCP.Close()
	}
}

// Server answers one sandbox.
type Server struct {
	sockets   Sockets
	forwarder *Forwarder // nil refuses
	owner     string
	told      func(name string, why error)
	once      sync.Once // told

	ctx     context.Context
	stop    context.CancelFunc
	waiting chan struct{}
	conns   chan struct{}
	pace    *fair.Bucket // of questions and connections
	work    sync.WaitGroup
}

// Serve begins to answer a sandbox of the owner, by f, which may be nil. told is called once, when the
// first question can't be answered, with [ErrOff] or [ErrSilent]; nil discards.
// The sockets are the server's until Close.
func (f *Forwarder) Serve(sockets Sockets, owner string, told func(name string, why error)) *Server {
	s := &Server{sockets: sockets, forwarder: f, owner: owner, told: told, waiting: make(chan struct{}, maxWaiting), conns: make(chan struct{}, maxConns),
		pace: fair.NewBucket(perSecond, most)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.work.Go(s.serveUDP)
	s.work.Go(s.serveTCP)
	return s
}

// Close stops answering, closes the sockets and waits: told is not called any
// more.
func (s *Server) Close() {
	s.stop()
	s.sockets.Close()
	s.work.Wait()
}

func (s *Server) serveUDP() {
	buffer := make([]byte, maxQuestion)
	for {
		n, from, err := s.sockets.UDP.ReadFrom(buffer)
		if err != nil || !s.spend() {
			return
		}
		select {
		case s.waiting <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		question := bytes.Clone(buffer[:n])
		s.work.Go(func() {
			defer func() { <-s.waiting }()
			if message := s.reply("udp", question); message != nil {
				_, _ = s.sockets.UDP.WriteTo(message, from) // who asked may be gone
			}
		})
	}
}

func (s *Server) serveTCP() {
	for {
		select {
		case s.conns <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		conn, err := s.sockets.TCP.Accept()
		if err != nil {
			<-s.conns
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(acceptPause) // no descriptor is free
			continue
		}
		s.work.Go(func() {
			defer func() { <-s.conns }()
			s.serveConn(conn)
		})
		if !s.spend() {
			return
		}
	}
}

// serveConn answers the questions of a connection, one after the other.
func (s *Server) serveConn(conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	defer stop()
	for {
		if err := conn.SetDeadline(time.Now().Add(connIdle)); err != nil {
			return
		}
		question, err := readFramed(conn)
		if err != nil || len(question) > maxQuestion || !s.spend() {
			return
		}
		message := s.reply("tcp", question)
		if message == nil || writeFramed(conn, message) != nil {
			return
		}
	}
}

// spend waits for what one question costs, and reports whether the server is open
// still.
func (s *Server) spend() bool { return fair.Pause(s.ctx.Done(), s.pace.Spend(1)) }

// reply answers a message, or returns nil for one that is no question.
func (s *Server) reply(network string, message []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil || header.Response {
		return nil
	}
	question, code := admit(&parser, header)
	if code != dnsmessage.RCodeSuccess {
		return refuse(header, question, code)
	}
	if s.forwarder == nil {
		s.tell(question.Name, ErrOff)
		return refuse(header, question, dnsmessage.RCodeRefused)
	}
	found, err := s.forwarder.ask(s.ctx, s.owner, network, message)
	if err != nil && thaw.KindOf(err) != thaw.Throttled && s.ctx.Err() == nil {
		s.forwarder.complain(err)
		s.tell(question.Name, ErrSilent)
	}
	if err != nil {
		return refuse(header, question, dnsmessage.RCodeServerFailure)
	}
	return found
}

// admit returns the question of a message if it is one that a look-up has. To a
// resolver on the host's loopback the forwarder is a local program, which may be
// allowed more than to ask: updates, transfers of zones and negotiations of keys
// don't pass.
func admit(parser *dnsmessage.Parser, header dnsmessage.Header) (dnsmessage.Question, dnsmessage.RCode) {
	// Types that are no data, but for "any": TKEY, TSIG, IXFR, AXFR, MAILB, MAILA
	// (RFC 6895, section 3.1).
	const firstMeta, lastMeta = 249, 254
	if header.OpCode != 0 {
		return dnsmessage.Question{}, dnsmessage.RCodeNotImplemented
	}
	questions, err := parser.AllQuestions()
	if err != nil || len(questions) != 1 {
		return dnsmessage.Question{}, dnsmessage.RCodeFormatError
	}
	q := questions[0]
	if q.Class != dnsmessage.ClassINET || q.Type >= firstMeta && q.Type <= lastMeta {
		return q, dnsmessage.RCodeRefused
	}
	return q, dnsmessage.RCodeSuccess
}

// refuse makes an answer that is only a code.
func refuse(header dnsmessage.Header, question dnsmessage.Question, code dnsmessage.RCode) []byte {
	message := dnsmessage.Message{Header: dnsmessage.Header{
		ID: header.ID, OpCode: header.OpCode, Response: true, RCode: code,
		RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
	}}
	if question.Name.Length > 0 {
		message.Questions = []dnsmessage.Question{question}
	}
	packed, err := message.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func (s *Server) tell(name dnsmessage.Name, why error) {
	s.once.Do(func() {
		if s.told != nil {
			s.told(strings.TrimSuffix(name.String(), "."), why)
		}
	})
}
