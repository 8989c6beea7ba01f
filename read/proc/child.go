// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"thaw.dev/thaw"
)

// Child is a running child process that notices the death of this one.
type Child struct {
	cmd  *exec.Cmd
	line *os.File // the end of the lifeline that this process holds; closing it again is no harm
	done chan struct{}
	err  error // valid once done is closed
}

// Start starts a child from a command line, with a lifeline, in a process group
// of its own so that a terminal's interrupt reaches this process alone. Its
// output goes to output. The caller ends it with [Child.Stop]. Where the
// program is this one, it is what runs here, though its path be gone or
// another's by now.
func Start(args []string, output io.Writer) (*Child, error) {
	if len(args) == 0 {
		return nil, thaw.Errorf("start a process", thaw.Invalid, "no command")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, thaw.Wrap("start "+args[0], err)
	}
	defer r.Close()
	cmd := exec.Command(args[0], args[1:]...)
	if own, err := os.Executable(); err == nil && own == args[0] {
		cmd.Path = "/proc/self/exe"
	}
	cmd.Dir = "/" // this process's own may be gone
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{r} // becomes descriptor 3
	cmd.Env = append(os.Environ(), LifelineEnv+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, thaw.Wrap("start "+args[0], errors.Join(err, w.Close()))
	}
	c := &Child{cmd: cmd, line: w, done: make(chan struct{})}
	go func() { // ends with the child
		c.err = cmd.Wait()
		_ = w.Close()
		close(c.done)
	}()
	return c, nil
}

// PID is the child's process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed once the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err is how the child ended: nil for status 0. It is valid once Done is
// closed.
func (c *Child) Err() error { return c.err }

// Kill ends the child at once, without waiting for it.
func (c *Child) Kill() { _ = c.cmd.Process.Kill() } // fails only if it has ended

// Stop asks the child to end, by its lifeline as this process's death would,
// kills it after grace, and returns when it has ended.
func (c *Child) Stop(grace time.Duration) {
	_ = c.line.Close() // fails only if it is closed
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.Kill()
		<-c.done
	}
}
