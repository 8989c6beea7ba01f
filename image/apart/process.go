// SPDX-License-Identifier: Apache-2.0

package apart

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// connsEnv tells a process how many connections it has, from descriptor 3 on. The
// descriptor after them is its lifeline.
const connsEnv = "THAW_APART"

// niceness keeps functions and their invocations before images that are made.
const niceness = 10

// process is a process that waits for an image, or makes one.
type process struct {
	cmd   *exec.Cmd
	conns []*conn
	line  *os.File // while it is open the process lives
	done  chan struct{}
	err   error // how it ended; valid once done is closed
}

// start starts a process, which does nothing until it is told what.
func start(c Config) (_ *process, err error) {
	p := &process{cmd: exec.Command(c.Command[0], c.Command[1:]...), done: make(chan struct{})}
	if own, err := os.Executable(); err == nil && own == c.Command[0] {
		p.cmd.Path = "/proc/self/exe" // what runs here, though its path be gone or another's by now
	}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close() // the process has its own
		}
		if err != nil {
			p.close()
			err = thaw.Wrap("start the process that makes an image", err)
		}
	}()
	for range c.Workers + 1 {
		mine, other, err := pair()
		if err != nil {
			return nil, err
		}
		p.conns, theirs = append(p.conns, mine), append(theirs, other)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.line, theirs = w, append(theirs, r)
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = c.Output, c.Output
	p.cmd.ExtraFiles = theirs
	// Nothing else of this process's environment, which has credentials.
	p.cmd.Env = []string{connsEnv + "=" + strconv.Itoa(len(p.conns))}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	_ = unix.Setpriority(unix.PRIO_PGRP, p.cmd.Process.Pid, niceness) // a courtesy
	go func() {                                                       // ends with the process
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// pair makes a connection.
func pair() (mine *conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBytes) // else it is slower
	}
	theirs = os.NewFile(uintptr(fds[1]), "apart")
	if mine, err = newConn(os.NewFile(uintptr(fds[0]), "apart")); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return mine, theirs, nil
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
	p.close()
}

func (p *process) close() {
	for _, c := range p.conns {
		_ = c.Close() // nothing is lost: the process is gone
	}
	if p.line != nil {
		_ = p.line.Close()
	}
}
