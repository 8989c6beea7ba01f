package jail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/jail/wire"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/output"
	"thaw.dev/thaw/invoke/sandbox/seccomp"
)

const (
	// apiPort is the port of sandbox.APIAddress.
	apiPort = 9001

	// handshakeTimeout bounds what init does by itself. It takes milliseconds;
	// a root that must be fetched takes its time afterwards, at execution.
	handshakeTimeout = 30 * time.Second

	// initThreads is what init itself takes of a pids limit, with room. The
	// command is bound exactly, by its user's limit on processes.
	initThreads = 16

	// releaseTimeout bounds the release of a jail whose owner is gone.
	releaseTimeout = time.Minute
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
	slots   *slots
	pool    *pool
	spawns  chan spawnRequest

	cancel  context.CancelFunc // stops filling
	filling sync.WaitGroup
	closing chan struct{} // closed when Close begins
	gone    chan struct{} // closed when no jail is left: the spawner ends

	mu      sync.Mutex
	closed  bool
	running map[*running]struct{}

	starting sync.WaitGroup // calls of Start; guarded by closed
	watching sync.WaitGroup // watches over started jails
	stopping sync.WaitGroup // releases
	spawned  sync.WaitGroup // the spawner
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
		config: config, log: config.logger(), slots: newSlots(config.Instance),
		pool:   &pool{size: config.Pool, taken: make(chan struct{}, 1)},
		spawns: make(chan spawnRequest), closing: make(chan struct{}), gone: make(chan struct{}),
		running: map[*running]struct{}{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFiles(context.WithoutCancel(ctx)))
		}
	}()
	if l.filter, err = seccomp.Default(); err != nil {
		return l, err
	}
	if l.program, err = sealInit(config.Init); err != nil {
		return l, err
	}
	if l.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return l, thaw.Wrap("jail: new", err)
	}
	if l.groups, err = cgroup.Open(ctx, config.Instance); err != nil {
		return l, err
	}
	if config.NAT != nil {
		if l.nat, err = network.OpenNAT(config.Instance, *config.NAT); err != nil {
			return l, err
		}
		l.pool.kind = sandbox.NetworkNAT
	}
	l.spawned.Go(l.spawner)
	filling, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.filling.Go(func() { l.fill(filling) })
	return l, nil
}

// Ready returns once the pool is full, or when ctx ends.
func (l *Launcher) Ready(ctx context.Context) error {
	for l.pool.missing() > 0 {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return thaw.Wrap("jail: ready", ctx.Err())
		}
	}
	return nil
}

// Start implements [sandbox.Launcher].
func (l *Launcher) Start(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	spec, err := spec.Prepare()
	if err != nil {
		return nil, err
	}
	if spec.Network == sandbox.NetworkNAT && l.nat == nil {
		return nil, thaw.Errorf("jail: start", thaw.Invalid, "NAT is not configured")
	}
	if err := l.enter(); err != nil {
		return nil, err
	}
	defer l.starting.Done()
	p, err := l.obtain(ctx, spec.Network)
	if err != nil {
		return nil, thaw.Wrap("jail: start "+spec.ID, err)
	}
	s, err := l.run(ctx, p, spec)
	if err != nil {
		releaseCtx, cancel := background()
		defer cancel()
		return nil, thaw.Wrap("jail: start "+spec.ID, errors.Join(err, l.release(releaseCtx, p)))
	}
	l.mu.Lock()
	l.running[s] = struct{}{}
	l.mu.Unlock()
	return s, nil
}

// enter counts one piece of work that Close waits for.
func (l *Launcher) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return thaw.Errorf("jail: start", thaw.Unavailable, "the launcher is closed")
	}
	l.starting.Add(1)
	return nil
}

// obtain takes a living jail from the pool or makes one.
func (l *Launcher) obtain(ctx context.Context, kind sandbox.Network) (*prepared, error) {
	for p := l.pool.take(kind); p != nil; p = l.pool.take(kind) {
		if p.alive() {
			return p, nil
		}
		l.log.Warn("jail: a waiting jail died", "slot", p.slot)
		if err := l.release(ctx, p); err != nil {
			l.log.Error("jail: release", "err", err)
		}
	}
	return l.prepare(ctx, kind)
}

// run sends root and command to a prepared jail and waits until the command
// was executed. On error p is still the caller's.
func (l *Launcher) run(ctx context.Context, p *prepared, spec sandbox.Spec) (*running, error) {
	limits := cgroup.Limits{MemoryBytes: spec.MemoryBytes, Shares: spec.CPUs, Pids: spec.Pids + initThreads}
	if !spec.BoostInit {
		limits.CPUs = spec.CPUs
	}
	if err := p.group.Limit(limits); err != nil {
		return nil, err
	}
	root, err := mapRoot(spec.Root, p.userns)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	owner := hostID(p.slot)
	out, err := output.Open(spec.Stdout, spec.Stderr, owner+sandbox.UID, owner+sandbox.GID)
	if err != nil {
		return nil, thaw.Wrap("jail: output", err)
	}
	order := l.order(spec)
	order.Stdout, order.Stderr, order.SharedOutput = out.Stdout, out.Stderr, out.Shared
	err = p.control.send(order.Encode(), append([]*os.File{root}, out.Writers...)...)
	out.CloseWriters()
	if err != nil {
		out.Abandon()
		return nil, err
	}
	report, _, err := p.control.receive(ctx)
	switch {
	case err == nil && report.Kind == wire.Started, err == nil && report.Kind == wire.Fault:
		return l.newRunning(p, spec, out, report), nil
	case err == nil:
		err = thaw.Errorf("jail: init", thaw.Internal, "report %d", report.Kind)
	}
	_ = p.process.Kill() // or the pipes would never end
	out.Abandon()
	return nil, err
}

func (l *Launcher) order(spec sandbox.Spec) wire.Start {
	o := wire.Start{
		Args: spec.Args, Env: spec.Env, Dir: spec.Dir, Hostname: spec.Hostname,
		Hosts: fmt.Sprintf("127.0.0.1 localhost %s sandbox.localdomain\n::1 localhost ip6-localhost ip6-loopback\n", spec.Hostname),
		UID:   sandbox.UID, GID: sandbox.GID, TmpBytes: spec.TmpBytes, Files: int64(spec.Files), Processes: int64(spec.Pids),
		WritableRoot: spec.WritableRoot,
	}
	if spec.Network == sandbox.NetworkNAT {
		var b strings.Builder
		for _, server := range l.nat.Nameservers() {
			fmt.Fprintf(&b, "nameserver %s\n", server)
		}
		o.Resolv = b.String()
	}
	return o
}

// Close implements [sandbox.Launcher].
func (l *Launcher) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.closing)
	l.mu.Unlock()
	l.cancel()
	l.filling.Wait()
	var errs []error
	for _, p := range l.pool.drain() {
		errs = append(errs, l.release(ctx, p))
	}
	l.starting.Wait() // those that came before closed
	for _, s := range l.list() {
		errs = append(errs, s.Stop(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err // a jail that does not end; its thread must stay, too
	}
	l.watching.Wait()
	l.stopping.Wait()
	close(l.gone)
	l.spawned.Wait()
	return errors.Join(append(errs, l.closeFiles(ctx))...)
}

func (l *Launcher) list() []*running {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*running, 0, len(l.running))
	for s := range l.running {
		list = append(list, s)
	}
	return list
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
