// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/ahead"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/pid1"
	"thaw.dev/thaw/invoke/sandbox/seccomp"
)

// Launcher starts containers. It implements [sandbox.Launcher].
type Launcher struct {
	config  Config
	log     *slog.Logger
	dir     string
	runtime *program
	enclave *enclave
	program *os.File // init, sealed in memory
	null    *os.File
	filter  string // file with the compiled filter
	profile *specs.LinuxSeccomp
	groups  *cgroup.Parent
	nat     *network.NAT // nil without NAT
	slots   *pid1.Slots
	machine *pid1.Machine
	set     *pid1.Set
	kind    sandbox.Network      // of the namespaces that are made ahead
	ahead   *ahead.Pool[*holder] // so that a start need not wait for them
}

var _ sandbox.Launcher = (*Launcher)(nil)

// New opens a launcher and removes what an earlier process of the instance
// left. Errors: [thaw.Invalid] for the configuration, [thaw.Unavailable] for
// what the host or this build lacks, the runtime among it.
func New(ctx context.Context, config Config) (_ *Launcher, err error) {
	if !network.ValidInstance(config.Instance) {
		return nil, thaw.Errorf("oci: config", thaw.Invalid, "instance %q is not 1 to 16 of [a-z0-9-]", config.Instance)
	}
	if config.Pool < 0 {
		return nil, thaw.Errorf("oci: config", thaw.Invalid, "pool of %d", config.Pool)
	}
	if config.Tmp == nil {
		return nil, thaw.Errorf("oci: config", thaw.Invalid, "Tmp is required")
	}
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Launcher{config: config, log: log, dir: filepath.Join(runFolder, config.Instance),
		slots: pid1.NewSlots(config.Instance), set: pid1.NewSet(log)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFiles(context.WithoutCancel(ctx)))
		}
	}()
	if l.machine, err = pid1.ReadMachine(); err != nil {
		return l, err
	}
	if l.groups, err = pid1.OpenGroups(ctx, config.Instance, l.log); err != nil { // kills what is left
		return l, err
	}
	if err = Sweep(config.Instance); err != nil {
		return l, err
	}
	if err = l.makeFolders(); err != nil {
		return l, thaw.Wrap("oci: folders", err)
	}
	if l.runtime, err = findRuntime(ctx, config.Runtime, filepath.Join(l.dir, "state")); err != nil {
		return l, err
	}
	if err = l.compile(); err != nil {
		return l, err
	}
	if l.program, err = pid1.Seal(config.Init); err != nil {
		return l, err
	}
	if config.NAT != nil {
		if l.nat, err = network.OpenNAT(config.Instance, *config.NAT); err != nil {
			return l, err
		}
		l.kind = sandbox.NetworkNAT
	}
	hybrid := l.runtime.crun && l.groups.Kind() == "v1"
	if l.enclave, err = openEnclave(filepath.Join(l.dir, "view"), l.groups, hybrid); err != nil {
		return l, err
	}
	if l.null, err = l.enclave.null(); err != nil {
		return l, thaw.Wrap("oci: new", err)
	}
	l.ahead = ahead.New(ahead.Options[*holder]{
		Size: config.Pool, Pause: refillPause, Retry: retryPause,
		Make: func(ctx context.Context) (*holder, error) { return l.hold(ctx, l.kind) },
		Failed: func(err error) bool {
			l.log.Error("oci: no namespaces can be made ahead; it is tried again", "err", err)
			return true
		},
	})
	return l, nil
}

// makeFolders makes the instance's folders. The sandboxes' users, who are
// nobody here, pass through all but the state: their mounts' sources are below.
func (l *Launcher) makeFolders() error {
	for dir, mode := range map[string]os.FileMode{"": 0o711, "state": 0o700, "view": 0o711, "bundles": 0o711} {
		path := filepath.Join(l.dir, dir)
		if err := errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode)); err != nil {
			return err
		}
	}
	return os.Chmod(runFolder, 0o711)
}

// compile writes the filter to a file.
func (l *Launcher) compile() (err error) {
	if l.profile, err = seccomp.Profile(); err != nil {
		return err
	}
	program, err := seccomp.Default()
	if err != nil {
		return err
	}
	l.filter = filepath.Join(l.dir, "filter.bpf")
	return thaw.Wrap("oci: filter", os.WriteFile(l.filter, program, 0o600))
}

// initPath is init as a program to execute.
func (l *Launcher) initPath() string { return fmt.Sprintf("/proc/self/fd/%d", l.program.Fd()) }

// Ready returns once the pool and that of /tmp are full, or when ctx ends.
func (l *Launcher) Ready(ctx context.Context) error {
	if err := l.ahead.Ready(ctx); err != nil {
		return thaw.Wrap("oci: ready", err)
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
		return nil, thaw.Errorf("oci: start", thaw.Invalid, "NAT is not configured")
	}
	if err := l.set.Enter(); err != nil {
		return nil, err
	}
	defer l.set.Leave()
	h, err := l.obtain(ctx, spec.Network)
	if err != nil {
		return nil, thaw.Wrap("oci: start "+spec.ID, err)
	}
	c := &container{l: l, id: h.id, holder: h, group: h.group, bundle: filepath.Join(l.dir, "bundles", h.id)}
	s, err := c.start(ctx, spec)
	if err != nil {
		releaseCtx, cancel := pid1.Background()
		defer cancel()
		return nil, thaw.Wrap("oci: start "+spec.ID, errors.Join(err, c.release(releaseCtx)))
	}
	return s, nil
}

// Close implements [sandbox.Launcher].
func (l *Launcher) Close(ctx context.Context) error {
	if !l.set.Close() {
		return nil
	}
	var errs []error
	for _, h := range l.ahead.Close() {
		errs = append(errs, h.release(ctx, l))
	}
	errs = append(errs, l.set.Stop(ctx))
	if err := errors.Join(errs...); err != nil {
		return err // a container that does not end
	}
	return l.closeFiles(ctx)
}

func (l *Launcher) closeFiles(ctx context.Context) error {
	var errs []error
	if l.enclave != nil {
		l.enclave.close()
	}
	for _, f := range []*os.File{l.program, l.null, l.runtime.sealed()} {
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
	return errors.Join(append(errs, Sweep(l.config.Instance))...)
}
