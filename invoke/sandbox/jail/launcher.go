// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/ahead"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/output"
	"thaw.dev/thaw/invoke/sandbox/pid1"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
	"thaw.dev/thaw/invoke/sandbox/seccomp"
)

const (
	// handshakeTimeout bounds what init does by itself. It takes milliseconds;
	// a root that must be fetched takes its time afterwards, at execution.
	handshakeTimeout = 30 * time.Second

	// initThreads is what init itself takes of a pids limit, with room. The
	// command is bound exactly, by its user's limit on processes.
	initThreads = 16

	// refillPause is how long after a jail was taken the next is made: that takes
	// about 20 ms of CPU, which the start that took the last one needs more.
	refillPause = 50 * time.Millisecond
	retryPause  = time.Second // after one could not be made
)

// Launcher starts jails. It implements [sandbox.Launcher].
type Launcher struct {
	config  Config
	log     *slog.Logger
	program *os.File // init, sealed in memory
	null    *os.File
	filter  seccomp.Program
	groups  *cgroup.Parent
	nat     *network.NAT // nil without NAT
	slots   *pid1.Slots
	machine *pid1.Machine
	set     *pid1.Set       // what was started
	kind    sandbox.Network // of the jails that are made ahead
	ahead   *ahead.Pool[*prepared]
	spawns  chan spawnRequest

	closing chan struct{}  // closed when Close begins
	gone    chan struct{}  // closed when no jail is left: the spawner ends
	spawned sync.WaitGroup // the spawner
}

var _ sandbox.Launcher = (*Launcher)(nil)

// New opens a launcher: it removes what an earlier process of the instance
// left, and begins to fill the pool. Errors: [thaw.Invalid] for the
// configuration, [thaw.Unavailable] for what the host or this build lacks.
func New(ctx context.Context, config Config) (_ *Launcher, err error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	l := &Launcher{
		config: config, log: config.logger(), slots: pid1.NewSlots(config.Instance), set: pid1.NewSet(config.logger()),
		spawns: make(chan spawnRequest), closing: make(chan struct{}), gone: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFiles(context.WithoutCancel(ctx)))
		}
	}()
	if l.machine, err = pid1.ReadMachine(); err != nil {
		return l, err
	}
	if l.filter, err = seccomp.Default(); err != nil {
		return l, err
	}
	if l.program, err = pid1.Seal(config.Init); err != nil {
		return l, err
	}
	if l.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return l, thaw.Wrap("jail: new", err)
	}
	if l.groups, err = pid1.OpenGroups(ctx, config.Instance, l.log); err != nil {
		return l, err
	}
	if config.NAT != nil {
		if l.nat, err = network.OpenNAT(config.Instance, *config.NAT); err != nil {
			return l, err
		}
		l.kind = sandbox.NetworkNAT
	}
	ready := make(chan error, 1)
	l.spawned.Go(func() {
		l.groups.Outside(func(err error) {
			if ready <- err; err == nil {
				l.spawner()
			}
		})
	})
	if err := <-ready; err != nil {
		l.spawned.Wait()
		return l, err
	}
	l.ahead = ahead.New(ahead.Options[*prepared]{
		Size: config.Pool, Pause: refillPause, Retry: retryPause,
		Make: func(ctx context.Context) (*prepared, error) { return l.prepare(ctx, l.kind) },
		Failed: func(err error) bool {
			l.log.Error("jail: none can be made ahead; it is tried again", "err", err)
			return true
		},
	})
	return l, nil
}

// Ready returns once the pool and that of /tmp are full, or when ctx ends.
func (l *Launcher) Ready(ctx context.Context) error {
	if err := l.ahead.Ready(ctx); err != nil {
		return thaw.Wrap("jail: ready", err)
	}
	return l.config.Tmp.Ready(ctx)
}

// NAT returns how sandboxes get out; nil where they don't. It is the launcher's.
func (l *Launcher) NAT() *network.NAT { return l.nat }

// Start implements [sandbox.Launcher].
func (l *Launcher) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	spec, err := spec.Prepare()
	if err != nil {
		return nil, err
	}
	if spec.Network == sandbox.NetworkNAT && l.nat == nil {
		return nil, thaw.Errorf("jail: start", thaw.Invalid, "NAT is not configured")
	}
	if err := l.set.Enter(); err != nil {
		return nil, err
	}
	defer l.set.Leave()
	p, err := l.obtain(ctx, spec.Network)
	if err != nil {
		return nil, thaw.Wrap("jail: start "+spec.ID, err)
	}
	s, err := l.run(ctx, p, spec)
	if err != nil {
		releaseCtx, cancel := pid1.Background()
		defer cancel()
		return nil, thaw.Wrap("jail: start "+spec.ID, errors.Join(err, l.release(releaseCtx, p)))
	}
	return s, nil
}

// obtain takes a waiting jail from the pool or makes one.
func (l *Launcher) obtain(ctx context.Context, kind sandbox.Network) (*prepared, error) {
	for kind == l.kind {
		p, ok := l.ahead.Take()
		if !ok {
			break
		}
		if pid1.Waits(p.process) {
			return p, nil
		}
		l.log.Warn("jail: a waiting jail died or was stopped: it is replaced", "slot", p.slot)
		if err := l.release(ctx, p); err != nil {
			l.log.Error("jail: release", "err", err)
		}
	}
	return l.prepare(ctx, kind)
}

// run sends root and command to a prepared jail and waits until the command
// was executed. On error p is still the caller's.
func (l *Launcher) run(ctx context.Context, p *prepared, spec sandbox.Spec) (*pid1.Running, error) {
	limits := pid1.Limits(spec)
	limits.Pids += initThreads
	if err := p.group.Limit(limits); err != nil {
		return nil, err
	}
	root, err := pid1.MapRoot(spec.Root, p.userns)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	tmp, err := p.mountTmp(l.config.Tmp, spec)
	if err != nil {
		return nil, err
	}
	owner := pid1.HostID(p.slot)
	out, err := output.Open(spec.Stdout, spec.Stderr, owner+sandbox.UID, owner+sandbox.GID)
	if err != nil {
		return nil, thaw.Wrap("jail: output", err)
	}
	var names *lookup.Forwarder
	if spec.Network == sandbox.NetworkNAT {
		names = l.config.Names
	}
	parts := pid1.Parts{
		Spec: spec, Control: p.control, First: p.process, Child: p.process, Group: p.group, Inside: p.inside, Names: names, Out: out,
		Release: func(ctx context.Context) error { return l.release(ctx, p) },
	}
	var machine wire.Machine
	p.cpus, machine = l.machine.Change(p.cpus, spec.MemoryBytes)
	report, err := parts.Order(ctx, pid1.StartOrder(spec, names, machine), root, tmp)
	if err != nil {
		return nil, err
	}
	return l.set.Run(parts, report), nil
}

// Close implements [sandbox.Launcher].
func (l *Launcher) Close(ctx context.Context) error {
	if !l.set.Close() {
		return nil
	}
	close(l.closing)
	var errs []error
	for _, p := range l.ahead.Close() {
		errs = append(errs, l.release(ctx, p))
	}
	errs = append(errs, l.set.Stop(ctx))
	if err := errors.Join(errs...); err != nil {
		return err // a jail that does not end; its thread must stay, too
	}
	close(l.gone)
	l.spawned.Wait()
	return l.closeFiles(ctx)
}

func (l *Launcher) closeFiles(ctx context.Context) error {
	var errs []error
	for _, f := range []*os.File{l.program, l.null} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if l.nat != nil {
		errs = append(errs, l.nat.Close())
	}
	if l.groups != nil {
		errs = append(errs, l.groups.Close(ctx))
	}
	return errors.Join(errs...)
}
