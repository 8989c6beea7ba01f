// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/lookup"
	"thaw.dev/thaw/invoke/sandbox/output"
	"thaw.dev/thaw/invoke/sandbox/pid1"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
)

const (
	// runtimeTimeout bounds what a runtime does by itself, which takes 50 to
	// 200 ms on a quiet machine.
	runtimeTimeout = time.Minute

	// initThreads is what init itself takes of a pids limit, with room. The
	// command is bound exactly, by its user's limit on processes.
	initThreads = 16

	// refillPause is how long after namespaces were taken the next are made: the
	// start that took them needs the processor more.
	refillPause = 50 * time.Millisecond
	retryPause  = time.Second // after they could not be made
)

// container is one container, from its making to its release, in which it
// belongs to one goroutine at a time.
type container struct {
	l       *Launcher
	id      string
	bundle  string // folder
	holder  *holder
	root    *os.File // the mapped root, until it is mounted
	tmp     *tmpdisk.Disk
	cpus    []int
	group   *cgroup.Group
	control pid1.Control
	first   *os.Process // process 1
	runtime *os.Process // stays until the container ends, and removes it then
}

func (c *container) log() string { return filepath.Join(c.bundle, "log") }

// start makes a container and orders its command. On error it is to be
// released.
func (c *container) start(ctx context.Context, spec sandbox.Spec) (*pid1.Running, error) {
	ctx, cancel := context.WithTimeout(ctx, runtimeTimeout)
	defer cancel()
	var names *lookup.Forwarder
	if spec.Network == sandbox.NetworkNAT {
		names = c.l.config.Names
	}
	c.cpus = c.l.machine.Take(spec.MemoryBytes)
	order := pid1.StartOrder(spec, names, c.l.machine.View(c.cpus, spec.MemoryBytes))
	if err := c.make(ctx, spec, order); err != nil {
		return nil, err
	}
	if err := c.ready(ctx, spec); err != nil {
		return nil, err
	}
	owner := pid1.HostID(c.holder.slot)
	out, err := output.Open(spec.Stdout, spec.Stderr, owner+sandbox.UID, owner+sandbox.GID)
	if err != nil {
		return nil, err
	}
	parts := pid1.Parts{
		Spec: spec, Control: c.control, First: c.first, Child: c.runtime, Group: c.group, Inside: c.holder.inside, Names: names, Out: out, Release: c.release,
	}
	report, err := parts.Order(ctx, order)
	if err != nil {
		return nil, err
	}
	return c.l.set.Run(parts, report), nil
}

// make makes what the runtime is given, and runs it.
func (c *container) make(ctx context.Context, spec sandbox.Spec, order wire.Start) (err error) {
	if c.root, err = pid1.MapRoot(spec.Root, c.holder.user); err != nil {
		return err
	}
	defer c.root.Close()
	if c.tmp, err = pid1.TakeTmp(c.l.config.Tmp, spec); err != nil {
		return err
	}
	tmp, err := c.tmp.Mount(c.holder.user)
	if err != nil {
		return err
	}
	if err := c.l.enclave.attach(c.id, c.root, tmp); err != nil {
		return err
	}
	if err := c.configure(spec, order); err != nil {
		return err
	}
	return c.run()
}

// run starts the runtime. It gets none of the server's own files.
func (c *container) run() error {
	control, remote, err := pid1.NewControl()
	if err != nil {
		return err
	}
	c.control = control
	files := []*os.File{c.l.null, c.l.null, c.l.null, controlFD: remote, programFD: c.l.program}
	c.runtime, err = c.l.command(files, c.log(), "run", "--bundle", c.bundle, "--preserve-fds", strconv.Itoa(preservedFDs), c.id)
	return errors.Join(err, remote.Close())
}

// command starts the runtime with a command.
func (l *Launcher) command(files []*os.File, log string, command ...string) (process *os.Process, err error) {
	err = l.enclave.do(func() (err error) {
		process, err = os.StartProcess(l.runtime.executable(), l.runtime.args(log, command...), &os.ProcAttr{
			Dir: "/", Env: environ(), Files: files, Sys: l.groups.Born(&syscall.SysProcAttr{Setsid: true}),
		})
		return err
	})
	return process, err
}

// ready waits for process 1, and puts the limits in force. It is alone in its
// group, and waits for its order.
func (c *container) ready(ctx context.Context, spec sandbox.Spec) error {
	report, _, err := c.control.Receive(ctx)
	if err != nil {
		return errors.Join(err, complaint(c.log()))
	}
	if report.Kind != wire.Prepared {
		return thaw.Errorf("oci: init", thaw.Internal, "report %d", report.Kind)
	}
	c.holder.let()
	pids, err := c.group.Procs()
	if err != nil {
		return err
	}
	if len(pids) != 1 {
		return thaw.Errorf("oci: init", thaw.Internal, "%d processes are in its group, not one", len(pids))
	}
	if c.first, err = os.FindProcess(pids[0]); err != nil {
		return err
	}
	if err := pid1.Ordinary(c.first.Pid); err != nil {
		return err
	}
	// The runtime has put rules of its own for devices into the group: making
	// it again replaces them.
	if c.group, err = c.l.groups.Make(c.id); err != nil {
		return err
	}
	limits := pid1.Limits(spec)
	limits.Pids += initThreads
	return c.group.Limit(limits)
}

// release kills what is left of a container and gives back all that it holds.
// It works on one that was made in part.
func (c *container) release(ctx context.Context) error {
	var errs []error
	errs = append(errs, c.group.Kill(ctx))
	c.control.Close()
	if c.runtime != nil {
		_, _ = c.runtime.Wait() // its container is gone
	}
	if c.first != nil {
		_ = c.first.Release() // it is not our child: nobody else waits for it
	}
	if c.l.runtime.knows(c.id) {
		errs = append(errs, c.delete())
	}
	errs = append(errs, c.l.enclave.detach(c.id), os.RemoveAll(c.bundle))
	if c.tmp != nil {
		c.tmp.Release()
	}
	c.l.machine.Give(c.cpus)
	return errors.Join(append(errs, c.holder.release(ctx, c.l))...)
}

// delete has the runtime forget a container that it did not itself remove: the
// runtime was killed.
func (c *container) delete() error {
	process, err := c.l.command([]*os.File{c.l.null, c.l.null, c.l.null}, c.log(), "delete", "--force", c.id)
	if err != nil {
		return err
	}
	state, err := process.Wait()
	if err == nil && !state.Success() {
		err = errors.Join(thaw.Errorf("oci: delete", thaw.Internal, "%s", state), complaint(c.log()))
	}
	return err
}
