// SPDX-License-Identifier: Apache-2.0

// Package output carries what a sandbox prints from pipes to writers. It knows
// pipes and writers; every kind of sandbox uses it.
package output

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/fair"
)

// Pipes are the pipes of one sandbox. They belong to one goroutine until
// [Pipes.Pump] is called.
type Pipes struct {
	// Writers are the ends for the sandbox: stdout, stderr, or only those that
	// have a writer. One that both share is there once.
	Writers []*os.File
	Stdout  bool // stdout has a pipe
	Stderr  bool // stderr has a pipe, its own or stdout's
	Shared  bool // one pipe serves both

	pipes   []*pipe
	pumping sync.WaitGroup
	pace    *fair.Bucket  // of bytes, of all pipes together
	ended   chan struct{} // closed by Wait: what is left is not paced
}

const (
	// readBytes is how much of a pipe is read at once.
	readBytes = 32 << 10

	// What a sandbox prints costs the host processor time. Its pipes are read at
	// paceBytes a second in the long run, paceMost at once; past that they fill,
	// and the sandbox waits in its writes. A read of little costs as much as one of
	// leastBytes, so that lines which come one by one are read together.
	paceBytes  = 4 << 20
	paceMost   = 32 << 20
	leastBytes = 16 << 10
)

// pipe is our end of one pipe. Both its goroutine and Drain read it.
type pipe struct {
	file *os.File
	raw  syscall.RawConn
	of   *Pipes

	mu   sync.Mutex // held from a read to the end of its write: so lines keep their order
	sink io.Writer
	buf  []byte
}

// Open makes a pipe for each writer that is not nil, and one for both where
// they are the same, so that the order of lines is kept. The writing ends
// belong to uid and gid of the host, so that the sandbox can open them again
// as /dev/stdout.
func Open(stdout, stderr io.Writer, uid, gid int) (*Pipes, error) {
	p := &Pipes{Stdout: stdout != nil, Stderr: stderr != nil, pace: fair.NewBucket(paceBytes, paceMost), ended: make(chan struct{})}
	p.Shared = p.Stdout && p.Stderr && same(stdout, stderr)
	sinks := []io.Writer{stdout, stderr}
	if p.Shared {
		sinks = sinks[:1]
	}
	for _, sink := range sinks {
		if sink == nil {
			continue
		}
		if err := p.add(sink, uid, gid); err != nil {
			p.Abandon()
			return nil, err
		}
	}
	return p, nil
}

func (p *Pipes) add(sink io.Writer, uid, gid int) error {
	var fds [2]int
	// os.Pipe would make the sandbox's end non-blocking too, which programs
	// do not expect of their output.
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	nonblock := unix.SetNonblock(fds[0], true)
	r := &pipe{file: os.NewFile(uintptr(fds[0]), "sandbox output"), of: p, sink: sink, buf: make([]byte, readBytes)}
	p.pipes = append(p.pipes, r)
	p.Writers = append(p.Writers, os.NewFile(uintptr(fds[1]), "sandbox output"))
	raw, err := r.file.SyscallConn()
	r.raw = raw
	return errors.Join(nonblock, err, unix.Fchown(fds[1], uid, gid))
}

// CloseWriters closes the sandbox's ends, once the sandbox has them.
func (p *Pipes) CloseWriters() {
	for _, w := range p.Writers {
		_ = w.Close()
	}
	p.Writers = nil
}

// Abandon closes all ends of pipes that were never pumped.
func (p *Pipes) Abandon() {
	p.CloseWriters()
	for _, r := range p.pipes {
		_ = r.file.Close()
	}
}

// Pump begins to copy, one goroutine a pipe.
func (p *Pipes) Pump() {
	for _, r := range p.pipes {
		p.pumping.Go(r.pump)
	}
}

// pump copies until the pipe ends, or until Wait has lost patience.
func (r *pipe) pump() {
	for more := true; more; {
		n := 0
		err := r.raw.Read(func(fd uintptr) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			var err error
			n, err = r.move(fd, readBytes)
			return err == nil
		})
		more = n > 0 && err == nil
		fair.Pause(r.of.ended, r.of.pace.Spend(int64(max(n, leastBytes))))
	}
	_ = r.file.Close()
}

// move takes at most so many bytes from the pipe to the sink, in one read: none
// and no error at the pipe's end, EAGAIN where none are there. It reads on
// where the sink fails: a sandbox must not hang, or die of SIGPIPE, because of
// its log. The caller holds mu.
func (r *pipe) move(fd uintptr, limit int) (int, error) {
	n, err := unix.Read(int(fd), r.buf[:min(limit, readBytes)])
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(int(fd), r.buf[:min(limit, readBytes)])
	}
	if err != nil {
		if errors.Is(err, unix.EAGAIN) {
			return 0, err
		}
		return 0, nil // as good as its end
	}
	if n > 0 {
		if _, err := r.sink.Write(r.buf[:n]); err != nil {
			r.sink = io.Discard
		}
	}
	return n, nil
}

// Drain returns once what was in the pipes when it was called is written. It
// waits for nothing that may be printed later, but for a writer that is slow.
func (p *Pipes) Drain() {
	for _, r := range p.pipes {
		_ = r.raw.Control(r.drain) // a pipe at its end is drained
	}
}

// drain does so for one pipe. What its goroutine has read is written once mu is
// had; how much is in the pipe bounds the rest, for a process may print on and
// on.
func (r *pipe) drain(fd uintptr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ) // FIONREAD by its other name
	for err == nil && left > 0 {
		var n int
		if n, err = r.move(fd, left); n == 0 {
			return
		}
		left -= n
	}
}

// Wait returns once everything is copied, the sandbox's processes being gone; call
// it once. A writer that does not take its bytes within patience loses what is still
// in the pipe.
func (p *Pipes) Wait(patience time.Duration) {
	close(p.ended)
	done := make(chan struct{})
	go func() { p.pumping.Wait(); close(done) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		for _, r := range p.pipes {
			_ = r.file.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// same reports whether two writers are one; writers that can't be compared
// are not.
func same(a, b io.Writer) (equal bool) {
	defer func() {
		if recover() != nil {
			equal = false
		}
	}()
	return a == b
}
