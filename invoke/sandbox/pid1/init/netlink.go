// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel queues at netlink sockets is in no control group's memory, and
// anybody may have any number of these. So the function's calls that make one
// come to init (seccomp_unotify(2)), which makes it for the function if
// less than maxNetlink are left of those that it has made.
const (
	maxNetlink = 16

	// netlinkPatience is how long a call waits for one to be closed: programs
	// have one for a moment, to list interfaces or addresses.
	netlinkPatience = time.Second
	netlinkPause    = 2 * time.Millisecond
)

// Offsets in struct seccomp_data.
const (
	offsetNumber = 0
	offsetDomain = 16 // the low half of the first argument
)

// netlinks makes netlink sockets for the function.
type netlinks struct {
	calls int       // the notification descriptor; -1 if there is none
	alive int       // an epoll: a file is in it until its last descriptor is closed, wherever that is
	full  time.Time // since when there are maxNetlink; zero if there are not

	// unanswered are, by thread, sockets that the caller has and does not know of: a
	// signal or a freeze interrupted it, and it is about to call again.
	unanswered map[uint32]given
}

// given is what a call comes to.
type given struct {
	args  [6]uint64
	fd    int // in the caller
	errno unix.Errno
}

// Of linux/seccomp.h.
type (
	notification struct {
		id    uint64
		pid   uint32
		flags uint32
		call  struct {
			number  int32
			arch    uint32
			pointer uint64
			args    [6]uint64
		}
	}
	response struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
	addition struct {
		id       uint64
		flags    uint32
		from, to uint32
		fdFlags  uint32
	}
)

// netlinkFilter stops calls of socket for a netlink socket, and no others. The
// filter of the profile has refused other ABIs.
var netlinkFilter = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNumber},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetDomain},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_NETLINK, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
	{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
}

// guardNetlink puts the filter in force for this thread and what it executes.
// Where somebody around the whole server takes such calls already, the kernel
// lets no other.
func guardNetlink() (netlinks, error) {
	filter := netlinkFilter
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno == unix.EBUSY {
		return netlinks{calls: -1}, nil
	}
	if errno != 0 {
		return netlinks{}, step("seccomp for netlink", errno)
	}
	unix.CloseOnExec(int(fd))
	alive, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return netlinks{calls: int(fd), alive: alive, unanswered: map[uint32]given{}}, step("epoll for netlink", err)
}

// serve answers one call.
func (n *netlinks) serve() {
	var call notification
	if n.control(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&call)) != 0 {
		return // the caller was interrupted, and may call again
	}
	made, again := n.unanswered[call.pid]
	delete(n.unanswered, call.pid)
	if !again || made.args != call.call.args {
		made.args = call.call.args
		made.fd, made.errno = n.make(&call)
	}
	answer := response{id: call.id, value: int64(made.fd), errno: -int32(made.errno)}
	if n.control(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer)) != 0 && made.errno == 0 && len(n.unanswered) < maxNetlink {
		n.unanswered[call.pid] = made
	}
}

// make makes a socket and gives it to the caller, of which it returns the descriptor there.
func (n *netlinks) make(call *notification) (int, unix.Errno) {
	if !n.wait() {
		return 0, unix.ENOBUFS
	}
	kind := int(int32(call.call.args[1]))
	fd, err := unix.Socket(unix.AF_NETLINK, kind|unix.SOCK_CLOEXEC, int(int32(call.call.args[2])))
	if err == nil {
		defer unix.Close(fd)
		err = unix.EpollCtl(n.alive, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT})
	}
	if err != nil {
		errno, _ := errors.AsType[unix.Errno](err)
		return 0, errno
	}
	// Not in one step with the answer (SECCOMP_ADDFD_FLAG_SEND): if a freeze comes
	// between, the kernel answers without a descriptor, with 0.
	add := addition{id: call.id, from: uint32(fd), fdFlags: uint32(kind & unix.SOCK_CLOEXEC)}
	there, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.calls), unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&add)))
	return int(there), errno
}

// wait returns true once the function has room for another socket. A signal to
// the caller, of which Go programs have many, makes the kernel call again: so what
// counts is since when there is no room.
func (n *netlinks) wait() bool {
	for n.count() >= maxNetlink {
		if n.full.IsZero() {
			n.full = time.Now()
		}
		if time.Since(n.full) > netlinkPatience {
			return false
		}
		time.Sleep(netlinkPause)
	}
	n.full = time.Time{}
	return true
}

// count returns how many of the sockets are left: each that is can be written to.
func (n *netlinks) count() int {
	var events [maxNetlink]unix.EpollEvent
	for {
		if left, err := unix.EpollWait(n.alive, events[:], 0); err == nil {
			return left
		} else if err != unix.EINTR {
			return maxNetlink // what can't be counted is full
		}
	}
}

func (n *netlinks) control(request uintptr, argument unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.calls), request, uintptr(argument))
	return errno
}
