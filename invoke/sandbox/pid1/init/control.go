// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// trouble is an error of a step: what was attempted, and what came of it.
type trouble struct {
	report wire.Report
}

func (t *trouble) Error() string { return t.report.What }

// step returns nil for a nil err, and else the host's trouble.
func step(what string, err error) error {
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*trouble](err); ok {
		return t
	}
	errno, _ := errors.AsType[unix.Errno](err)
	return &trouble{wire.Report{Kind: wire.Failed, What: what, Errno: int64(errno)}}
}

// control is the socket to the launcher.
type control struct{ fd int }

// receive returns the next message and its descriptors. The process ends where
// the launcher is gone: nobody is left to report to.
func (c control) receive() ([]byte, []int) {
	var fds []int
	message, ok := wire.Assemble(func() []byte {
		packet, got := c.packet()
		fds = append(fds, got...)
		return packet
	})
	if !ok {
		c.fail(step("assemble message", unix.EBADMSG))
	}
	return message, fds
}

// packet returns the next packet and its descriptors.
func (c control) packet() ([]byte, []int) {
	data := make([]byte, wire.PacketBytes)
	rights := make([]byte, unix.CmsgSpace(4*4))
	for {
		n, rn, _, _, err := unix.Recvmsg(c.fd, data, rights, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			os.Exit(1)
		}
		messages, err := unix.ParseSocketControlMessage(rights[:rn])
		if err != nil {
			c.fail(step("parse descriptors", err))
		}
		var fds []int
		for _, m := range messages {
			got, err := unix.ParseUnixRights(&m)
			if err != nil {
				c.fail(step("parse descriptors", err))
			}
			fds = append(fds, got...)
		}
		return data[:n], fds
	}
}

// passed are the descriptors of a start message; -1 is not passed.
type passed struct{ root, tmp, stdout, stderr int }

// start waits for the order to start, which comes with a root and a /tmp in a
// jail.
func (c control) start(withMounts bool) (wire.Start, passed) {
	data, fds := c.receive()
	var order wire.Start
	if !order.Decode(data) {
		c.fail(step("decode start", unix.EBADMSG))
	}
	next := func(want bool) int {
		if !want {
			return -1
		}
		if len(fds) == 0 {
			c.fail(step("descriptors of start", unix.EBADMSG))
		}
		fd := fds[0]
		fds = fds[1:]
		return fd
	}
	files := passed{root: next(withMounts), tmp: next(withMounts), stdout: next(order.Stdout), stderr: next(order.Stderr && !order.SharedOutput)}
	if order.SharedOutput {
		files.stderr = files.stdout
	}
	return order, files
}

// send sends a report, with descriptors.
func (c control) send(r wire.Report, fds ...int) {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(c.fd, r.Encode(), rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return
		}
	}
}

// fail reports an error and ends the jail.
func (c control) fail(err error) {
	if t, ok := errors.AsType[*trouble](err); ok {
		c.send(t.report)
	} else {
		errno, _ := errors.AsType[unix.Errno](err)
		c.send(wire.Report{Kind: wire.Failed, What: "init", Errno: int64(errno)})
	}
	os.Exit(1)
}
