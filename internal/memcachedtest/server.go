// SPDX-License-Identifier: Apache-2.0

// Package memcachedtest runs real memcached servers on loopback, as an
// unprivileged user, for tests and benchmarks; and does to them what happens to
// servers.
package memcachedtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// User is whom the servers run as where the caller is root: memcached refuses
// to be root.
const User = "nobody"

// Server is one memcached server. Its methods are for one goroutine.
type Server struct {
	Address string // host:port, the same after a restart
	args    []string
	cmd     *exec.Cmd
}

// Start runs a server with 64 MB of memory and two threads; args are further
// options, the last of which count. It returns when the server answers.
func Start(ctx context.Context, args ...string) (*Server, error) {
	// A port that was free may be taken before the server has it.
	var err error
	for range 5 {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		s := &Server{Address: l.Addr().String(), args: args}
		_ = l.Close() // only its port was wanted
		if err = s.run(ctx); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// StartAll runs n servers. When one fails, those that run are killed.
func StartAll(ctx context.Context, n int, args ...string) ([]*Server, error) {
	var servers []*Server
	for range n {
		s, err := Start(ctx, args...)
		if err != nil {
			for _, s := range servers {
				s.Kill()
			}
			return nil, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// Addresses returns where the servers are.
func Addresses(servers []*Server) []string {
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.Address)
	}
	return addresses
}

func (s *Server) run(ctx context.Context) error {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	args := []string{"-l", host, "-p", port, "-U", "0", "-m", "64", "-t", "2"}
	s.cmd = exec.Command("memcached", append(args, s.args...)...)
	// Whoever started the server may end without ending it: then it ends too.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		// Not by memcached's -u: a process that changes its user forgets whose
		// death ends it.
		if s.cmd.SysProcAttr.Credential, err = unprivileged(); err != nil {
			return err
		}
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }() // ends with the server
	for {
		nc, err := net.Dial("tcp", s.Address)
		if err == nil {
			return nc.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("memcached on %s ended: %w", s.Address, err)
		case <-ctx.Done():
			s.Kill()
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup(User)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// PID is the number of its process.
func (s *Server) PID() string { return strconv.Itoa(s.cmd.Process.Pid) }

// Kill ends the server at once. A second call does nothing.
func (s *Server) Kill() { _ = s.cmd.Process.Kill() }

// Pause stops the process: it accepts connections and requests and answers
// nothing, until [Server.Resume].
func (s *Server) Pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Restart kills the server if it runs, and starts an empty one in its place.
func (s *Server) Restart(ctx context.Context) error {
	s.Kill()
	var err error
	for range 50 { // until the port is free
		if err = s.run(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
