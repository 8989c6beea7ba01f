// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"context"
	"errors"
	"fmt"
	"os"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/pid1"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
)

// prepared is a jail whose init waits for a root and a command. It belongs to
// one goroutine at a time; release gives all of it back.
type prepared struct {
	slot    int
	process *os.Process
	control pid1.Control
	userns  *os.File
	group   *cgroup.Group
	inside  pid1.Inside
	network sandbox.Network
	lease   *network.Lease // nil without NAT
	tmp     *tmpdisk.Disk  // nil until it is used
	cpus    []int
}

// prepare makes a jail. Its order matters: the cgroups before the cgroup
// namespace, the network of the host's side once init has its namespace.
func (l *Launcher) prepare(ctx context.Context, kind sandbox.Network) (_ *prepared, err error) {
	slot, err := l.slots.Take()
	if err != nil {
		return nil, err
	}
	p := &prepared{slot: slot, network: kind}
	defer func() {
		if err != nil {
			releaseCtx, cancel := pid1.Background()
			defer cancel()
			err = errors.Join(err, l.release(releaseCtx, p))
		}
	}()
	if p.group, err = l.groups.Make(fmt.Sprintf("jail-%d", slot)); err != nil {
		return p, err
	}
	var remote *os.File
	if p.control, remote, err = pid1.NewControl(); err != nil {
		return p, thaw.Wrap("jail: socket pair", err)
	}
	p.process, err = l.spawn(ctx, slot, remote)
	if err = errors.Join(err, remote.Close()); err != nil {
		return p, thaw.Wrap("jail: clone init", err)
	}
	if err = pid1.Ordinary(p.process.Pid); err != nil {
		return p, err
	}
	if p.userns, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", p.process.Pid)); err != nil {
		return p, thaw.Wrap("jail: user namespace", err)
	}
	if err = p.group.Add(p.process.Pid); err != nil {
		return p, err
	}
	if kind == sandbox.NetworkNAT {
		if err = l.attach(p); err != nil {
			return p, err
		}
	}
	return p, l.handshake(ctx, p)
}

// attach gives a jail an interface behind NAT.
func (l *Launcher) attach(p *prepared) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.process.Pid))
	if err != nil {
		return thaw.Wrap("jail: network namespace", err)
	}
	defer ns.Close()
	p.lease, err = l.nat.Attach(ns)
	return err
}

// handshake has init prepare itself and takes its sockets.
func (l *Launcher) handshake(ctx context.Context, p *prepared) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	p.cpus = l.machine.Take(pid1.UsualBytes)
	order := wire.Prepare{Seccomp: string(l.filter), Machine: l.machine.View(p.cpus, pid1.UsualBytes)}
	for _, v := range l.groups.Views() {
		order.Cgroups = append(order.Cgroups, wire.Mount(v))
	}
	if err := p.control.Send(order.Encode()); err != nil {
		return thaw.Wrap("jail: prepare", err)
	}
	var err error
	p.inside, err = p.control.Prepared(ctx)
	return thaw.Wrap("jail: prepare", err)
}

// mountTmp takes the /tmp of a sandbox and returns its mount, which stays the
// disk's.
func (p *prepared) mountTmp(store *tmpdisk.Store, spec sandbox.Spec) (mount *os.File, err error) {
	if p.tmp, err = pid1.TakeTmp(store, spec); err != nil {
		return nil, err
	}
	return p.tmp.Mount(p.userns)
}

// release kills a jail and gives back all that it holds. It works on one that
// was made in part.
func (l *Launcher) release(ctx context.Context, p *prepared) error {
	var errs []error
	if p.process != nil {
		_ = p.process.Kill()
		_, _ = p.process.Wait()
	}
	p.control.Close()
	if p.userns != nil {
		_ = p.userns.Close()
	}
	p.inside.Close()
	if p.lease != nil {
		errs = append(errs, p.lease.Release())
	}
	if p.group != nil {
		errs = append(errs, p.group.Remove(ctx))
	}
	if p.tmp != nil {
		p.tmp.Release()
	}
	l.machine.Give(p.cpus)
	l.slots.Give(p.slot)
	return errors.Join(errs...)
}
