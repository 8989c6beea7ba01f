// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/guard"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/output"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

const (
	// outputPatience bounds how long a sandbox whose processes are gone waits
	// for a writer that does not take its last output.
	outputPatience = 2 * time.Second

	// releaseTimeout bounds the release of a sandbox whose owner is gone.
	releaseTimeout = time.Minute
)

// Background is the context of work that must go on whatever its caller does:
// releasing. It ends after a minute.
func Background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), releaseTimeout)
}

// Parts are what a sandbox consists of once its command was ordered.
type Parts struct {
	Spec    sandbox.Spec
	Control Control
	First   *os.Process // process 1 of the sandbox's namespace
	Child   *os.Process // the child whose end is the end of First: First itself or what started it
	Group   *cgroup.Group
	Inside  Inside
	Names   *lookup.Forwarder // answers look-ups; nil refuses them
	Out     *output.Pipes

	// Release gives all of it back but Out. It is called once, and logged
	// where it fails.
	Release func(context.Context) error
}

// Running is a started sandbox. It implements [sandbox.Sandbox],
// [sandbox.Meter], [sandbox.Booster] and [sandbox.Drainer].
type Running struct {
	Parts
	set   *Set
	done  chan struct{}
	exit  sandbox.Exit // valid once done is closed
	names *lookup.Server
	meter *cgroup.Meter

	// mu keeps a freeze from coming after the thaw by which Stop lets the
	// killed processes die.
	mu       sync.Mutex
	stopping bool
	released chan struct{} // nil before Stop; closed when all is given back
	err      error         // of the release; valid once released is closed
}

var (
	_ sandbox.Sandbox = (*Running)(nil)
	_ sandbox.Meter   = (*Running)(nil)
	_ sandbox.Booster = (*Running)(nil)
	_ sandbox.Drainer = (*Running)(nil)
)

// Order sends init what to run and where to print, with mounts before it (root
// and /tmp of a jail), and returns the report: Started or Fault. On error parts are
// still the caller's, but for Out, and First must be killed.
func (p *Parts) Order(ctx context.Context, order wire.Start, mounts ...*os.File) (wire.Report, error) {
	if err := expendable(p.First.Pid); err != nil {
		p.Out.CloseWriters()
		p.Out.Abandon()
		return wire.Report{}, err
	}
	order.Stdout, order.Stderr, order.SharedOutput = p.Out.Stdout, p.Out.Stderr, p.Out.Shared
	err := p.Control.Send(order.Encode(), append(mounts, p.Out.Writers...)...)
	p.Out.CloseWriters()
	var report wire.Report
	if err == nil {
		report, _, err = p.Control.Receive(ctx)
	}
	if err == nil && report.Kind != wire.Started && report.Kind != wire.Fault {
		err = thaw.Errorf("sandbox: init", thaw.Internal, "report %d", report.Kind)
	}
	if err != nil {
		p.Out.Abandon()
	}
	return report, err
}

// expendable has the kernel kill the sandbox before any process of the server's
// when memory runs out. It is done from outside, and before anything else: only
// what a process with rights on the host has set can't be lowered inside.
func expendable(pid int) error {
	score := []byte(strconv.Itoa(guard.Sandbox))
	return thaw.Wrap("sandbox: OOM score", os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), score, 0))
}

// watch waits for the end of the command and then of init, with which every
// process of the sandbox is gone: init is process 1 of their namespace.
func (s *Running) watch(report wire.Report) {
	exit := sandbox.Exit{Code: -1}
	if report.Kind == wire.Fault {
		exit.Err = sandbox.NewExecError(sandbox.ExecError{
			Fault: sandbox.Fault(report.Code), Path: report.What, Errno: syscall.Errno(report.Errno), Hint: report.Hint})
	} else if end, _, err := s.Control.Receive(context.Background()); err == nil && end.Kind == wire.Ended {
		status := syscall.WaitStatus(end.Code)
		if status.Signaled() {
			exit.Signal = status.Signal()
		} else {
			exit.Code = status.ExitStatus()
		}
	} else {
		exit.Signal = syscall.SIGKILL // init was killed, and with it the command
	}
	s.meter.OOMKills()
	_, _ = s.meter.Peak() // what the kernel kept, for who asks after Stop
	_ = s.First.Kill()    // where it waits for us to have looked, before its group goes
	_, _ = s.Child.Wait()
	exit.OOMKills = s.meter.OOMKills()
	s.Out.Wait(outputPatience)
	s.exit = exit
	close(s.done)
}

// Listener implements [sandbox.Sandbox].
func (s *Running) Listener() net.Listener { return s.Inside.API }

// Done implements [sandbox.Sandbox].
func (s *Running) Done() <-chan struct{} { return s.done }

// Exit implements [sandbox.Sandbox].
func (s *Running) Exit() sandbox.Exit { return s.exit }

// Drain implements [sandbox.Drainer].
func (s *Running) Drain() { s.Out.Drain() }

// Pid implements [sandbox.Meter].
func (s *Running) Pid() int { return s.First.Pid }

// Freeze implements [sandbox.Sandbox].
func (s *Running) Freeze(ctx context.Context) error {
	return s.unlessStopping(func() error { return s.Group.Freeze(ctx) })
}

// Thaw implements [sandbox.Sandbox].
func (s *Running) Thaw(context.Context) error { return s.unlessStopping(s.Group.Thaw) }

// EndBoost implements [sandbox.Booster].
func (s *Running) EndBoost(context.Context) error {
	return s.unlessStopping(func() error { return s.Group.Limit(cgroup.Limits{CPUs: s.Spec.CPUs}) })
}

// MemoryPeak implements [sandbox.Meter].
func (s *Running) MemoryPeak(context.Context) (int64, error) {
	var peak int64
	err := s.unlessStopping(func() (err error) { peak, err = s.meter.Peak(); return err })
	if thaw.KindOf(err) == thaw.Canceled {
		return s.meter.Last(), nil
	}
	return peak, err
}

// OOMKills implements [sandbox.Meter].
func (s *Running) OOMKills() int64 { return s.meter.OOMKills() }

// unlessStopping does something to the group. It may be gone by itself: an OCI
// runtime removes it at the command's end.
func (s *Running) unlessStopping(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return thaw.Errorf("sandbox: "+s.Spec.ID, thaw.Canceled, "the sandbox is stopped")
	}
	return unlessGone(do())
}

// unlessGone passes an error on, but not that a group is gone: then it holds
// nobody.
func unlessGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// Stop implements [sandbox.Sandbox].
func (s *Running) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopping {
		s.stopping = true
		s.released = make(chan struct{})
		s.set.stopping.Go(s.dismantle)
	}
	s.mu.Unlock()
	select {
	case <-s.released:
		return s.err
	case <-ctx.Done():
		return thaw.Wrap("sandbox: stop "+s.Spec.ID, ctx.Err())
	}
}

// dismantle kills process 1 of the namespace: the kernel then lets no process
// of it fork any more and kills them all, however fast they fork. A frozen
// process dies once it is thawed.
func (s *Running) dismantle() {
	defer close(s.released)
	_ = s.First.Kill()
	s.Inside.Close()
	s.names.Close()
	err := unlessGone(s.Group.Thaw())
	<-s.done
	s.meter.Close()
	ctx, cancel := Background()
	defer cancel()
	s.err = errors.Join(err, s.Release(ctx))
	if s.err != nil {
		s.set.log.Error("sandbox: release", "sandbox", s.Spec.ID, "err", s.err)
	}
	s.set.remove(s)
}

// Set is the sandboxes that a launcher has started. It is safe for concurrent
// use.
type Set struct {
	log     *slog.Logger
	mu      sync.Mutex
	closed  bool
	running map[*Running]struct{}

	starting sync.WaitGroup // starts under way; guarded by closed
	watching sync.WaitGroup // watches over started sandboxes
	stopping sync.WaitGroup // releases
}

// NewSet returns an empty set.
func NewSet(log *slog.Logger) *Set { return &Set{log: log, running: map[*Running]struct{}{}} }

// Enter counts a start that Stop waits for, until Leave. The error is
// [thaw.Unavailable] once the set is closed.
func (s *Set) Enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return thaw.Errorf("sandbox: start", thaw.Unavailable, "the launcher is closed")
	}
	s.starting.Add(1)
	return nil
}

// Leave ends what Enter began.
func (s *Set) Leave() { s.starting.Done() }

// Run adds a sandbox whose init sent report, and watches over it.
func (s *Set) Run(parts Parts, report wire.Report) *Running {
	r := &Running{Parts: parts, set: s, done: make(chan struct{}), meter: cgroup.NewMeter(parts.Group, parts.Spec.TmpBytes),
		names: parts.Names.Serve(parts.Inside.DNS, parts.Spec.Owner, parts.Spec.LookupFailed)}
	s.mu.Lock()
	s.running[r] = struct{}{}
	s.mu.Unlock()
	r.Out.Pump()
	s.watching.Go(func() { r.watch(report) })
	return r
}

// Close lets no start begin any more. It reports whether that is new.
func (s *Set) Close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.closed
	s.closed = true
	return !was
}

// Stop stops every sandbox of a closed set. With a nil error nothing of them
// is under way any more.
func (s *Set) Stop(ctx context.Context) error {
	s.starting.Wait()
	s.mu.Lock()
	list := make([]*Running, 0, len(s.running))
	for r := range s.running {
		list = append(list, r)
	}
	s.mu.Unlock()
	var errs []error
	for _, r := range list {
		errs = append(errs, r.Stop(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.watching.Wait()
	s.stopping.Wait()
	return nil
}

func (s *Set) remove(r *Running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, r)
}
