// SPDX-License-Identifier: Apache-2.0

// Command init is process 1 of a sandbox. In a jail, where it is cloned into
// new namespaces ahead of need, it prepares all that does not depend on what
// will run, and waits. When its launcher sends a root and a command it attaches
// the root, gives up every right, executes the command as its child, reaps
// orphans, tells how the child ended and exits; the kernel then kills what is
// left. It forwards nothing to the command and takes nothing from it.
//
// Its argument says if it stands elsewhere: "container" is process 1 of an OCI
// container, which the runtime has isolated, and only executes the command;
// "holder" opens the listener in a user and network namespace and keeps them
// until a container is in them.
//
// It is a static program of its own, started from a sealed copy in memory, so
// that a waiting jail costs half a megabyte and holds nothing of the host's
// file system.
package main

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// controlFD is the socket to the launcher, the first extra file.
const controlFD = 3

func main() {
	// Namespaces, capabilities and filters belong to threads: everything
	// happens on this one, and the command is forked from it.
	runtime.LockOSThread()
	c := control{fd: controlFD}
	unmoved()
	if err := secure(); err != nil {
		c.fail(err)
	}
	switch mode := append(os.Args, "")[1]; mode {
	case "container":
		container(c)
	case "holder":
		hold(c)
	default:
		jail(c)
	}
}

// jail is process 1 of a jail.
func jail(c control) {
	bound()
	filter, err := prepare(c)
	if err != nil {
		c.fail(err)
	}
	order, files := c.start(true)
	if err := enter(order, files); err != nil {
		c.fail(err)
	}
	c.send(wire.Report{Kind: wire.Ended, Code: int64(run(c, order, files, filter))})
}

// container is process 1 of an OCI container. Of what the runtime left it, it
// gives up the rest as a jail does.
func container(c control) {
	c.send(wire.Report{Kind: wire.Prepared})
	order, files := c.start(false)
	if err := restrict(); err != nil {
		c.fail(err)
	}
	c.send(wire.Report{Kind: wire.Ended, Code: int64(run(c, order, files, nil))})
	// The runtime removes the control group when this process ends; the
	// launcher looks at it first, and then kills.
	select {}
}

// hold keeps its namespaces until it is killed or its launcher is gone.
func hold(c control) {
	bound()
	sockets, err := listen()
	if err != nil {
		c.fail(err)
	}
	c.send(wire.Report{Kind: wire.Prepared}, sockets...)
	c.receive()
}

// bounds are what a function may have of tables that are counted for each
// network or user namespace, and of which nobody else pays for what stands in them.
var bounds = [...][2]string{
	{"/proc/sys/net/ipv4/tcp_max_tw_buckets", "8192"}, // connections that have ended, for a minute
	{"/proc/sys/user/max_user_namespaces", "0"},       // the filter refuses them too
}

// bound sets bounds. A host that lets nobody change them has its own.
func bound() {
	for _, b := range bounds {
		_ = put(b[0], b[1])
	}
}

// run executes the command and returns how it ended.
func run(c control, order wire.Start, files passed, filter []byte) syscall.WaitStatus {
	pid, calls, err := launch(order, files, filter)
	if err != nil {
		c.fail(err)
	}
	// The command runs already, so the report need not wait: giving up rights
	// stops every thread, and the runtime yields the processor meanwhile, to the
	// command, for 2 to 4 ms where processors are few.
	c.send(wire.Report{Kind: wire.Started, Code: int64(pid)})
	if err := surrender(); err != nil {
		c.fail(err)
	}
	go attend(calls)
	return reap(pid)
}

// attend answers the function's calls for netlink sockets, and ends this process
// with its launcher: one that is gone must not leave a running function behind.
func attend(calls netlinks) {
	events := []unix.PollFd{{Fd: controlFD, Events: unix.POLLIN}, {Fd: int32(calls.calls), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(events, -1); err != nil {
			continue // interrupted
		}
		if events[0].Revents != 0 {
			var b [1]byte
			if n, err := syscall.Read(controlFD, b[:]); n == 0 || (err != nil && err != syscall.EINTR) {
				os.Exit(1)
			}
		}
		if events[1].Revents&unix.POLLIN != 0 {
			calls.serve()
		} else if events[1].Revents != 0 {
			events[1].Fd = -1 // nobody is left who could call
		}
	}
}

// unmoved makes the signals that a terminal or a service manager sends to every
// process at once nothing to this one: its launcher ends it. The kernel gives
// process 1 of a namespace no signal that has no handler, and Go has one for
// these. What is executed finds them as they were.
func unmoved() {
	action := [4]uintptr{sigDefault} // struct sigaction: handler, flags, restorer, mask
	if os.Getpid() != 1 {
		action[0] = sigIgnore // it executes nothing
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

// The dispositions of a signal that are no handler.
const (
	sigDefault = 0
	sigIgnore  = 1
)

// secure lets go of what was inherited: nothing but the control socket and,
// until then, the descriptors of a start message may exist; nothing at all may
// reach the command.
func secure() error {
	if err := unix.CloseRange(controlFD+1, ^uint(0), 0); err != nil {
		return step("close descriptors", err)
	}
	unix.CloseOnExec(controlFD)
	// Executed from a descriptor, it would be named by that number.
	name := append([]byte("thaw-init"), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	return nil
}

// prepare does what needs no knowledge of the command, and returns the seccomp
// filter for later. What it can do without its control groups it does while the
// launcher puts it into them, which takes as long.
func prepare(c control) (filter []byte, err error) {
	if err := skeleton(); err != nil {
		return nil, err
	}
	if err := restrict(); err != nil {
		return nil, err
	}
	sockets, err := listen()
	if err != nil {
		return nil, err
	}
	var order wire.Prepare
	data, _ := c.receive()
	if !order.Decode(data) {
		return nil, step("decode prepare", unix.EBADMSG)
	}
	// The launcher has put this process into its cgroups by now: the new
	// namespace makes them the root of what the sandbox sees.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return nil, step("unshare cgroup namespace", err)
	}
	if err := mountCgroups(order.Cgroups); err != nil {
		return nil, err
	}
	if err := describe(order.Machine); err != nil {
		return nil, err
	}
	c.send(wire.Report{Kind: wire.Prepared}, sockets...)
	for _, fd := range sockets {
		if err := unix.Close(fd); err != nil {
			return nil, step("close", err)
		}
	}
	return []byte(order.Seccomp), nil
}

// listen brings the loopback up and opens the sockets that the launcher answers
// on, in the order that package wire gives.
func listen() ([]int, error) {
	var fds []int
	for _, socket := range [...]struct{ kind, port int }{
		{unix.SOCK_STREAM, wire.APIPort}, {unix.SOCK_DGRAM, wire.DNSPort}, {unix.SOCK_STREAM, wire.DNSPort},
	} {
		fd, err := open(socket.kind, socket.port)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// open opens a socket on the loopback, which it brings up.
func open(kind, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, step("socket", err)
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return -1, step("loopback", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return -1, step("loopback up", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, step("reuse address", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, step("bind", err)
	}
	if kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 128)
	}
	return fd, step("listen", err)
}

// reap collects every child until the command ended, and returns its status.
func reap(command int) syscall.WaitStatus {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if pid == command && (status.Exited() || status.Signaled()) {
			return status
		}
		if err == syscall.ECHILD {
			return 0
		}
	}
}
