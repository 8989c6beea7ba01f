// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"thaw.dev/thaw/invoke/sandbox"
)

// launcher starts real processes without isolation: the worker's tests are
// about order, ends and words, not about walls. Freezing is SIGSTOP.
type launcher struct {
	t testing.TB

	mu     sync.Mutex
	err    error // what Start returns
	oom    int64 // the count of OOM kills of every sandbox, as it is now
	oomEnd int64 // and what its end adds
	calls  []string
	boxes  []*process
	alive  int
	most   int // alive at once
	specs  []sandbox.Spec
}

// process is a sandbox of launcher.
type process struct {
	launcher *launcher
	listener net.Listener
	cmd      *exec.Cmd
	done     chan struct{}
	exit     sandbox.Exit
	once     sync.Once
	out      *output
}

// output is a pipe that can be drained: what a process has written is in the
// pipe, so reading until nothing is there has read it.
type output struct {
	file, end *os.File
	raw       syscall.RawConn
	to        io.Writer
	read      chan struct{} // closed at the pipe's end

	mu sync.Mutex // orders the readers
}

func newOutput(to io.Writer) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	raw, err := r.SyscallConn()
	if err != nil {
		return nil, err
	}
	o := &output{file: r, end: w, raw: raw, to: to, read: make(chan struct{})}
	go func() {
		defer close(o.read)
		for more := true; more; {
			if err := raw.Read(func(fd uintptr) bool { n, ok := o.some(fd); more = ok; return n != 0 || !ok }); err != nil {
				return
			}
		}
	}()
	return o, nil
}

// some passes on what is in the pipe now: how much, and whether more may come.
func (o *output) some(fd uintptr) (int, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	buf := make([]byte, 32<<10)
	n, err := syscall.Read(int(fd), buf)
	if n > 0 {
		_, _ = o.to.Write(buf[:n])
		return n, true
	}
	return 0, errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
}

func (p *process) Drain() {
	_ = p.out.raw.Control(func(fd uintptr) {
		for {
			if n, _ := p.out.some(fd); n == 0 {
				return
			}
		}
	})
}

func (l *launcher) note(call string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call)
}

// noted returns the calls since the last time.
func (l *launcher) noted() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := strings.Join(l.calls, " ")
	l.calls = nil
	return out
}

func (l *launcher) Start(_ context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	if _, err := spec.Prepare(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &process{launcher: l, listener: listener, done: make(chan struct{})}
	p.cmd = exec.Command(spec.Args[0], spec.Args[1:]...)
	p.cmd.Dir = spec.Dir
	if p.out, err = newOutput(spec.Stdout); err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = p.out.end, p.out.end
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	for _, kv := range spec.Env {
		if !strings.HasPrefix(kv, "AWS_LAMBDA_RUNTIME_API=") {
			p.cmd.Env = append(p.cmd.Env, kv)
		}
	}
	p.cmd.Env = append(p.cmd.Env, "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String())
	l.specs = append(l.specs, spec)
	l.boxes = append(l.boxes, p)
	l.calls = append(l.calls, "start")
	l.alive++
	l.most = max(l.most, l.alive)
	err = p.cmd.Start()
	p.out.end.Close()
	if err != nil {
		p.exit = sandbox.Exit{Code: -1, Err: execError(spec, err)}
		close(p.done)
		return p, nil
	}
	go p.wait()
	return p, nil
}

func execError(spec sandbox.Spec, err error) error {
	if _, stat := os.Stat(spec.Dir); stat != nil {
		return sandbox.NewExecError(sandbox.ExecError{Fault: sandbox.FaultWorkingDir, Path: spec.Dir, Errno: syscall.ENOENT})
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return sandbox.NewExecError(sandbox.ExecError{Fault: sandbox.FaultEntrypointMissing, Path: spec.Args[0], Errno: syscall.ENOENT, Hint: "the image has no " + spec.Args[0]})
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	return sandbox.NewExecError(sandbox.ExecError{Fault: sandbox.FaultEntrypointNotExecutable, Path: spec.Args[0], Errno: errno})
}

func (p *process) wait() {
	_ = p.cmd.Wait()
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.exit.Code = status.ExitStatus()
	if status.Signaled() {
		p.exit.Signal = status.Signal()
	}
	p.launcher.mu.Lock()
	p.exit.OOMKills = p.launcher.oom + p.launcher.oomEnd
	p.launcher.mu.Unlock()
	<-p.out.read
	close(p.done)
}

func (l *launcher) Close(context.Context) error { return nil }

func (p *process) Listener() net.Listener { return p.listener }
func (p *process) Done() <-chan struct{}  { return p.done }
func (p *process) Exit() sandbox.Exit     { return p.exit }

func (p *process) Freeze(context.Context) error { return p.signal("freeze", syscall.SIGSTOP) }
func (p *process) Thaw(context.Context) error   { return p.signal("thaw", syscall.SIGCONT) }

func (p *process) signal(call string, sig syscall.Signal) error {
	p.launcher.note(call)
	select {
	case <-p.done:
		return nil
	default:
		return syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}

func (p *process) Stop(context.Context) error {
	p.once.Do(func() {
		p.launcher.note("stop")
		if p.cmd.Process != nil {
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		}
		<-p.done
		p.listener.Close()
		<-p.out.read
		p.out.file.Close()
		p.launcher.mu.Lock()
		p.launcher.alive--
		p.launcher.mu.Unlock()
	})
	return nil
}

func (p *process) MemoryPeak(context.Context) (int64, error) { return 30<<20 + 1, nil }
func (p *process) OOMKills() int64 {
	p.launcher.mu.Lock()
	defer p.launcher.mu.Unlock()
	return p.launcher.oom
}
func (p *process) Pid() int { return p.cmd.Process.Pid }

func (p *process) EndBoost(context.Context) error {
	p.launcher.note("endboost")
	return nil
}

// stopped reports whether the process is in state T: frozen.
func (p *process) stopped(t testing.TB) bool {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + itoa(p.Pid()) + "/stat")
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return fields[0] == "T"
}
