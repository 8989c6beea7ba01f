// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"thaw.dev/thaw/invoke/sandbox/network"
	"thaw.dev/thaw/invoke/sandbox/pid1"
)

// holder is a process that keeps a user and a network namespace until a
// container is in them. The sockets inside stay.
type holder struct {
	process *os.Process
	control pid1.Control
	inside  pid1.Inside
	lease   *network.Lease // nil without NAT
}

// hold makes the namespaces of a slot. On error the holder is to be released.
func (l *Launcher) hold(ctx context.Context, slot int, nat bool) (*holder, error) {
	h := &holder{}
	control, remote, err := pid1.NewControl()
	if err != nil {
		return h, err
	}
	h.control = control
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: pid1.HostID(slot), Size: pid1.IDsPerSlot}}
	h.process, err = os.StartProcess(l.initPath(), []string{"thaw-init", "holder"}, &os.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1", "GOGC=off"}, Files: []*os.File{l.null, l.null, l.null, remote},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Credential: &syscall.Credential{Uid: 0, Gid: 0}, Setsid: true,
		},
	})
	if err = errors.Join(err, remote.Close()); err != nil {
		return h, err
	}
	if h.inside, err = h.control.Prepared(ctx); err != nil {
		return h, err
	}
	if !nat {
		return h, nil
	}
	ns, err := os.Open(h.namespace("net"))
	if err != nil {
		return h, err
	}
	defer ns.Close()
	h.lease, err = l.nat.Attach(ns)
	return h, err
}

// namespace is the path of a namespace of the holder.
func (h *holder) namespace(kind string) string {
	return fmt.Sprintf("/proc/%d/ns/%s", h.process.Pid, kind)
}

// end ends the process. The namespaces stay if somebody is in them.
func (h *holder) end() {
	h.control.Close()
	if h.process != nil {
		_ = h.process.Kill()
		_, _ = h.process.Wait()
		h.process = nil
	}
}

// release gives everything back.
func (h *holder) release() error {
	h.end()
	var errs []error
	h.inside.Close()
	if h.lease != nil {
		errs = append(errs, h.lease.Release())
	}
	return errors.Join(errs...)
}
