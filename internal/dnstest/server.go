// SPDX-License-Identifier: Apache-2.0

// Package dnstest is a name server for tests: it answers by UDP and TCP from a
// table, as large as the answers may be, and counts what it was asked.
package dnstest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/net/dns/dnsmessage"
)

// Server is a running name server.
type Server struct {
	udp net.PacketConn
	tcp net.Listener

	mu    sync.Mutex // guards what follows
	names map[string][]netip.Addr
	code  dnsmessage.RCode
	mute  string // a name
	asked map[string]int
}

// Start listens on the address, at one port by UDP and TCP, in the network
// namespace of the calling thread, and returns where. Names are as "a.test".
func Start(address string, names map[string][]netip.Addr) (*Server, netip.AddrPort, error) {
	s := &Server{names: names, asked: map[string]int{}}
	var err error
	if s.udp, s.tcp, err = Listen(address); err != nil {
		return nil, netip.AddrPort{}, err
	}
	go s.serveUDP()
	go s.serveTCP()
	return s, netip.MustParseAddrPort(s.udp.LocalAddr().String()), nil
}

// Listen opens one port by UDP and TCP. Of a port 0 the kernel chooses one that
// is free by UDP; where that is taken by TCP, another is tried.
func Listen(address string) (net.PacketConn, net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	for try := 1; ; try++ {
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			return nil, nil, err
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp, nil
		}
		_ = udp.Close()
		if port != "0" || !errors.Is(err, syscall.EADDRINUSE) || try == listenTries {
			return nil, nil, err
		}
	}
}

// listenTries bounds how many ports [Listen] tries.
const listenTries = 100

// Close ends the server.
func (s *Server) Close() {
	_ = s.udp.Close()
	_ = s.tcp.Close()
}

// SetNames replaces what the server knows.
func (s *Server) SetNames(names map[string][]netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = names
}

// Fail has each question answered by a code alone; 0 ends that.
func (s *Server) Fail(code dnsmessage.RCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}

// Mute has the questions for a name stay without an answer, by UDP.
func (s *Server) Mute(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = name
}

// Asked returns how often a name was asked for, by "udp" or "tcp".
func (s *Server) Asked(network, name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[network+" "+name]
}

func (s *Server) serveUDP() {
	buffer := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(buffer)
		if err != nil {
			return
		}
		if answer := s.answer("udp", buffer[:n]); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
		}
	}
}

func (s *Server) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					return
				}
				question := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(conn, question); err != nil {
					return
				}
				answer := s.answer("tcp", question)
				if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
					return
				}
			}
		}()
	}
}

// answer makes the answer to a question; what does not fit the asker by UDP is
// left out and said to be.
func (s *Server) answer(network string, message []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(message); err != nil || len(m.Questions) != 1 {
		return nil
	}
	room := 512
	for _, extra := range m.Additionals {
		if extra.Header.Type == dnsmessage.TypeOPT {
			room = int(extra.Header.Class)
		}
	}
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	s.mu.Lock()
	s.asked[network+" "+name]++
	addresses, known := s.names[name]
	code := s.code
	mute := network == "udp" && name == s.mute
	s.mu.Unlock()
	if mute {
		return nil
	}
	out := dnsmessage.Message{Questions: m.Questions, Header: dnsmessage.Header{
		ID: m.ID, Response: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true, RCode: code,
	}}
	if code == 0 && !known {
		out.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
		switch {
		case code != 0:
		case a.Is4() && q.Type == dnsmessage.TypeA:
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	packed, err := out.Pack()
	if err == nil && network == "udp" && len(packed) > room {
		out.Answers, out.Truncated = nil, true
		packed, err = out.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}
