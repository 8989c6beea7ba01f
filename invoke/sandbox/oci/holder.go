// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/cgroup"
	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/pid1"
)

// holder is a slot with what need not wait for a container's root: its control
// groups, a user and a network namespace, and the sockets in there. It belongs to
// one goroutine at a time.
type holder struct {
	slot      int
	id        string
	group     *cgroup.Group
	user, net *os.File // the namespaces. They need no process
	inside    pid1.Inside
	lease     *network.Lease // nil without NAT
}

// obtain takes a holder that was made ahead, or makes one.
func (l *Launcher) obtain(ctx context.Context, kind sandbox.Network) (*holder, error) {
	if kind == l.kind {
		if h, ok := l.ahead.Take(); ok {
			return h, nil
		}
	}
	return l.hold(ctx, kind)
}

// hold makes a holder.
func (l *Launcher) hold(ctx context.Context, kind sandbox.Network) (_ *holder, err error) {
	slot, err := l.slots.Take()
	if err != nil {
		return nil, err
	}
	h := &holder{slot: slot, id: fmt.Sprintf("oci-%d", slot)}
	defer func() {
		if err != nil {
			releaseCtx, cancel := pid1.Background()
			defer cancel()
			err = errors.Join(err, h.release(releaseCtx, l))
		}
	}()
	if h.group, err = l.groups.Make(h.id); err != nil {
		return h, err
	}
	if err := l.unshare(ctx, h); err != nil || kind != sandbox.NetworkNAT {
		return h, err
	}
	h.lease, err = l.nat.Attach(h.net)
	return h, err
}

// unshare makes the namespaces by a process, which is gone when it returns.
func (l *Launcher) unshare(ctx context.Context, h *holder) error {
	control, remote, err := pid1.NewControl()
	if err != nil {
		return err
	}
	defer control.Close()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: pid1.HostID(h.slot), Size: pid1.IDsPerSlot}}
	process, err := pid1.OwnedBy(h.slot, func() (*os.Process, error) {
		return os.StartProcess(l.initPath(), []string{"thaw-init", "holder"}, &os.ProcAttr{
			Dir: "/", Env: []string{"GOMAXPROCS=1", "GOGC=off"}, Files: []*os.File{l.null, l.null, l.null, remote},
			Sys: &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
				UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
				Credential: &syscall.Credential{Uid: 0, Gid: 0}, Setsid: true,
			},
		})
	})
	if err = errors.Join(err, remote.Close()); err != nil {
		return err
	}
	defer func() {
		_ = process.Kill()
		_, _ = process.Wait()
	}()
	if h.inside, err = control.Prepared(ctx); err != nil {
		return err
	}
	for kind, file := range map[string]**os.File{"user": &h.user, "net": &h.net} {
		if *file, err = os.Open(fmt.Sprintf("/proc/%d/ns/%s", process.Pid, kind)); err != nil {
			return err
		}
	}
	return nil
}

// path is where a runtime finds a namespace of a holder.
func path(namespace *os.File) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), namespace.Fd())
}

// let gives up the namespaces, which stay if somebody is in them.
func (h *holder) let() {
	for _, f := range []*os.File{h.user, h.net} {
		if f != nil {
			_ = f.Close()
		}
	}
	h.user, h.net = nil, nil
}

// release gives everything back. No process may be in the groups.
func (h *holder) release(ctx context.Context, l *Launcher) error {
	h.let()
	h.inside.Close()
	var errs []error
	if h.lease != nil {
		errs = append(errs, h.lease.Release())
	}
	if h.group != nil {
		errs = append(errs, h.group.Remove(ctx))
	}
	l.slots.Give(h.slot)
	return errors.Join(errs...)
}
