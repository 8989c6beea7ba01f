// SPDX-License-Identifier: Apache-2.0

package runtimeapi

import (
	"errors"
	"net"
	"syscall"
	"time"

	"thaw.dev/thaw"
)

// maxConns bounds the connections of one sandbox. A runtime uses one or two; a
// bound keeps a hostile function from holding the worker's memory.
const maxConns = 16

// Serve answers the runtime's calls on l until [Server.Close], then returns nil.
// It takes l over. No call ever times out: the runtime may be frozen for as
// long as it is idle.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.state == stateClosed {
		s.mu.Unlock()
		_ = l.Close() // the sandbox closes it too
		return nil
	}
	s.listener = l
	s.mu.Unlock()
	for {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && isShortage(err):
			if !s.pause() {
				return nil
			}
			continue
		case err != nil:
			return thaw.Wrap("runtimeapi: accept", err)
		}
		if !s.enter(nc) {
			_ = nc.Close() // over the bound, or closing: nothing was promised
		}
		if !s.spend(1) {
			return nil
		}
	}
}

// acceptPause is the pause after a call that could not be accepted for want of
// descriptors or memory. It waits in the kernel meanwhile.
const acceptPause = 50 * time.Millisecond

// isShortage reports whether a later try may succeed.
func isShortage(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && (errno == syscall.EMFILE || errno == syscall.ENFILE || errno == syscall.ENOBUFS || errno == syscall.ENOMEM || errno == syscall.ECONNABORTED)
}

// pause waits a moment, and reports whether the server is still open.
func (s *Server) pause() bool {
	select {
	case <-s.closed:
		return false
	case <-time.After(acceptPause):
		return true
	}
}

func (s *Server) enter(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateClosed || len(s.open) >= maxConns {
		return false
	}
	s.open[nc] = struct{}{}
	s.running.Go(func() {
		defer s.exit(nc)
		newConn(s, nc).serve()
	})
	return true
}

// spawn runs f in a goroutine that Close waits for, unless the server is closed.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateClosed {
		return false
	}
	s.running.Go(f)
	return true
}

func (s *Server) exit(nc net.Conn) {
	s.mu.Lock()
	delete(s.open, nc)
	s.mu.Unlock()
	_ = nc.Close() // the peer is a runtime: nobody is told
}

// Close ends Serve and every call, and waits for them. A turn in flight is
// never answered afterwards. A second call does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	if s.state != stateClosed {
		s.state = stateClosed
		close(s.closed)
		s.end()
	}
	s.waiting = nil
	if s.listener != nil {
		_ = s.listener.Close() // the sandbox closes it too
	}
	for nc := range s.open {
		_ = nc.Close() // breaks its reads and writes
	}
	s.mu.Unlock()
	s.running.Wait()
}
