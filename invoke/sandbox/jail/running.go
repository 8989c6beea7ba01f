package jail

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/jail/wire"
	"thaw.dev/thaw/invoke/sandbox/output"
)

// outputPatience bounds how long a sandbox whose processes are gone waits for
// a writer that does not take its last output.
const outputPatience = 2 * time.Second

// running is a started jail. It implements [sandbox.Sandbox], [sandbox.Meter],
// [sandbox.Booster] and [sandbox.Drainer].
type running struct {
	launcher *Launcher
	p        *prepared
	spec     sandbox.Spec
	out      *output.Pipes
	done     chan struct{}
	exit     sandbox.Exit // valid once done is closed
	meter    *cgroup.Meter

	// mu keeps a freeze from coming after the thaw by which Stop lets the
	// killed processes die.
	mu       sync.Mutex
	stopping bool
	released chan struct{} // nil before Stop; closed when all is given back
	err      error         // of the release; valid once released is closed
}

var (
	_ sandbox.Sandbox = (*running)(nil)
	_ sandbox.Meter   = (*running)(nil)
	_ sandbox.Booster = (*running)(nil)
	_ sandbox.Drainer = (*running)(nil)
)

// newRunning watches over a jail whose init sent report: Started or Fault.
func (l *Launcher) newRunning(p *prepared, spec sandbox.Spec, out *output.Pipes, report wire.Report) *running {
	s := &running{launcher: l, p: p, spec: spec, out: out, done: make(chan struct{}), meter: cgroup.NewMeter(p.group)}
	out.Pump()
	l.watching.Go(func() { s.watch(report) })
	return s
}

// watch waits for the end of the command and then of init, with which every
// process of the jail is gone: init is process 1 of their namespace.
func (s *running) watch(report wire.Report) {
	exit := sandbox.Exit{Code: -1}
	if report.Kind == wire.Fault {
		exit.Err = sandbox.NewExecError(sandbox.Fault(report.Code), report.What, syscall.Errno(report.Errno))
	} else if end, _, err := s.p.control.receive(context.Background()); err == nil && end.Kind == wire.Ended {
		status := syscall.WaitStatus(end.Code)
		if status.Signaled() {
			exit.Signal = status.Signal()
		} else {
			exit.Code = status.ExitStatus()
		}
	} else {
		exit.Signal = syscall.SIGKILL // init was killed, and with it the command
	}
	_, _ = s.p.process.Wait()
	s.out.Wait(outputPatience)
	if m, err := s.p.group.Memory(); err == nil {
		exit.OOM = m.OOMKills > 0
	}
	_, _ = s.meter.Peak() // what the kernel kept, for who asks after Stop
	s.exit = exit
	close(s.done)
}

// Listener implements [sandbox.Sandbox].
func (s *running) Listener() net.Listener { return s.p.listener }

// Done implements [sandbox.Sandbox].
func (s *running) Done() <-chan struct{} { return s.done }

// Exit implements [sandbox.Sandbox].
func (s *running) Exit() sandbox.Exit { return s.exit }

// Drain implements [sandbox.Drainer].
func (s *running) Drain() { s.out.Drain() }

// Pid implements [sandbox.Meter].
func (s *running) Pid() int { return s.p.process.Pid }

// Freeze implements [sandbox.Sandbox].
func (s *running) Freeze(ctx context.Context) error {
	return s.unlessStopping(func() error { return s.p.group.Freeze(ctx) })
}

// Thaw implements [sandbox.Sandbox].
func (s *running) Thaw(context.Context) error { return s.unlessStopping(s.p.group.Thaw) }

// EndBoost implements [sandbox.Booster].
func (s *running) EndBoost(context.Context) error {
	return s.unlessStopping(func() error { return s.p.group.Limit(cgroup.Limits{CPUs: s.spec.CPUs}) })
}

// MemoryPeak implements [sandbox.Meter].
func (s *running) MemoryPeak(context.Context) (int64, error) {
	var peak int64
	err := s.unlessStopping(func() (err error) { peak, err = s.meter.Peak(); return err })
	if thaw.KindOf(err) == thaw.Canceled {
		return s.meter.Last(), nil
	}
	return peak, err
}

func (s *running) unlessStopping(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return thaw.Errorf("jail: "+s.spec.ID, thaw.Canceled, "the sandbox is stopped")
	}
	return do()
}

// Stop implements [sandbox.Sandbox].
func (s *running) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopping {
		s.stopping = true
		s.released = make(chan struct{})
		s.launcher.stopping.Go(s.dismantle)
	}
	s.mu.Unlock()
	select {
	case <-s.released:
		return s.err
	case <-ctx.Done():
		return thaw.Wrap("jail: stop "+s.spec.ID, ctx.Err())
	}
}

// dismantle kills process 1 of the namespace: the kernel then lets no process
// of it fork any more and kills them all, however fast they fork. A frozen
// process dies once it is thawed.
func (s *running) dismantle() {
	defer close(s.released)
	_ = s.p.process.Kill()
	_ = s.p.listener.Close()
	err := s.p.group.Thaw()
	if errors.Is(err, os.ErrNotExist) {
		err = nil // a group that is gone holds nobody frozen
	}
	<-s.done
	ctx, cancel := background()
	defer cancel()
	s.err = errors.Join(err, s.launcher.release(ctx, s.p))
	if s.err != nil {
		s.launcher.log.Error("jail: release", "sandbox", s.spec.ID, "err", s.err)
	}
	s.launcher.mu.Lock()
	delete(s.launcher.running, s)
	s.launcher.mu.Unlock()
}
