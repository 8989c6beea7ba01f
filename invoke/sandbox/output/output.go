// Package output carries what a sandbox prints from pipes to writers. It knows
// pipes and writers; every kind of sandbox uses it.
package output

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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

	readers []*os.File
	sinks   []io.Writer
	pumping sync.WaitGroup
}

// Open makes a pipe for each writer that is not nil, and one for both where
// they are the same, so that the order of lines is kept. The writing ends
// belong to uid and gid of the host, so that the sandbox can open them again
// as /dev/stdout.
func Open(stdout, stderr io.Writer, uid, gid int) (*Pipes, error) {
	p := &Pipes{Stdout: stdout != nil, Stderr: stderr != nil}
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
	err := unix.SetNonblock(fds[0], true)
	p.readers = append(p.readers, os.NewFile(uintptr(fds[0]), "sandbox output"))
	p.Writers = append(p.Writers, os.NewFile(uintptr(fds[1]), "sandbox output"))
	p.sinks = append(p.sinks, sink)
	if err != nil {
		return err
	}
	return unix.Fchown(fds[1], uid, gid)
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
	for _, r := range p.readers {
		_ = r.Close()
	}
}

// Pump begins to copy, one goroutine a pipe.
func (p *Pipes) Pump() {
	for i, r := range p.readers {
		p.pumping.Go(func() { pump(p.sinks[i], r) })
	}
}

// pump copies until the pipe ends. It reads on where the writer fails: a
// sandbox must not hang, or die of SIGPIPE, because of its log.
func pump(sink io.Writer, r *os.File) {
	if _, err := io.Copy(sink, r); err != nil {
		_, _ = io.Copy(io.Discard, r)
	}
	_ = r.Close()
}

// Wait returns once everything is copied, the sandbox's processes being gone.
// A writer that does not take its bytes within patience loses what is still
// in the pipe.
func (p *Pipes) Wait(patience time.Duration) {
	done := make(chan struct{})
	go func() { p.pumping.Wait(); close(done) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		for _, r := range p.readers {
			_ = r.SetReadDeadline(time.Unix(1, 0))
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
