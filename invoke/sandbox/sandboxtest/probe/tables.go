// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// taken is how much a probe got of one of the kernel's tables.
type taken struct {
	Count, Bytes int
	Error        string // what ended it; "ok" is the number that was asked for
}

// take takes things that the kernel keeps outside of a process's own memory,
// until it has so many or gets no more, and answers. With a third argument it
// then holds them.
func take(args []string) {
	kinds := map[string]func() (int, error){
		"tcp": queueTCP, "udp": queueUDP, "unix": queueUnix, "datagrams": queueDatagrams, "pipes": queuePipe,
		"netlink": queueRoutes, "netlink user": queueUserNetlink,
		"inotify": instance, "watches": watches(), "signals": signals, "mqueue": mqueue, "aio": aio, "lists of interfaces": openNetlink,
	}
	next, ok := kinds[args[0]]
	if !ok {
		fail("unknown kind " + args[0])
	}
	var got taken
	var err error
	for got.Count < number(args[1]) {
		var n int
		if n, err = next(); err != nil {
			break
		}
		got.Count, got.Bytes = got.Count+1, got.Bytes+n
	}
	got.Error = outcome(err)
	answer(got)
	if len(args) > 2 {
		time.Sleep(time.Hour)
	}
}

// payload is what is sent at once. A datagram of so many bytes passes everywhere.
var payload = make([]byte, 32<<10)

// stuff writes to a socket that nobody reads until it takes no more.
func stuff(fd int) (total int, err error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return 0, err
	}
	for {
		n, err := unix.Write(fd, payload)
		if err == unix.EAGAIN || err == unix.ENOBUFS || err == unix.ECONNREFUSED {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		total += n
	}
}

// queueTCP fills a connection over the loopback. Both ends take all the buffer
// that they get.
func queueTCP() (int, error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	if err := unix.Listen(listener, 1); err != nil {
		return 0, err
	}
	at, err := unix.Getsockname(listener)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, at); err != nil {
		return 0, err
	}
	if _, _, err := unix.Accept(listener); err != nil {
		return 0, err
	}
	total := 0
	for range 20 { // the kernel moves what was written from one end to the other, and enlarges buffers
		n, err := stuff(fd)
		if total += n; err != nil {
			return total, err
		}
		time.Sleep(time.Millisecond)
	}
	return total, nil
}

// queueUDP has datagrams wait at a socket that nobody reads.
func queueUDP() (int, error) {
	to, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(to, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	_ = unix.SetsockoptInt(to, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<20)
	at, err := unix.Getsockname(to)
	if err != nil {
		return 0, err
	}
	from, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(from)
	for range 2000 { // more than the buffer holds; what is too much is dropped
		if err := unix.Sendto(from, payload, 0, at); err != nil {
			return 0, err
		}
	}
	return held(to)
}

// held returns the bytes of memory that what waits at a socket takes.
func held(fd int) (int, error) {
	const memInfo = 55 // SO_MEMINFO: rmem_alloc, rcvbuf, wmem_alloc, ...
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, memInfo, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(info[0]), nil
}

func queueUnix() (int, error) { return pair(unix.SOCK_STREAM) }

func queueDatagrams() (int, error) { return pair(unix.SOCK_DGRAM) }

func pair(kind int) (int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		return 0, err
	}
	for _, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<20)
	}
	a, err := stuff(fds[0])
	if err != nil {
		return a, err
	}
	b, err := stuff(fds[1])
	return a + b, err
}

func queuePipe() (int, error) {
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		return 0, err
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, 1<<20)
	return stuff(fds[1])
}

// queueRoutes asks for the list of interfaces, again and again, and never reads
// an answer.
func queueRoutes() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<20)
	var m bytes.Buffer
	_ = binary.Write(&m, binary.NativeEndian, unix.NlMsghdr{Len: unix.SizeofNlMsghdr + unix.SizeofIfInfomsg, Type: unix.RTM_GETLINK, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP, Seq: 1})
	_ = binary.Write(&m, binary.NativeEndian, unix.IfInfomsg{})
	for range 4000 {
		if err := unix.Sendto(fd, m.Bytes(), unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			break
		}
	}
	return held(fd)
}

// queueUserNetlink sends messages to a netlink socket of its own that nobody
// reads.
func queueUserNetlink() (int, error) {
	to, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_USERSOCK)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(to, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	_ = unix.SetsockoptInt(to, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<20)
	at, err := unix.Getsockname(to)
	if err != nil {
		return 0, err
	}
	from, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_USERSOCK)
	if err != nil {
		return 0, err
	}
	defer unix.Close(from)
	for range 2000 {
		if err := unix.Sendto(from, payload, unix.MSG_DONTWAIT, at); err != nil {
			break
		}
	}
	return held(to)
}

func instance() (int, error) {
	_, err := unix.InotifyInit1(0)
	return 0, err
}

// watches watches one new file of /tmp after the other.
func watches() func() (int, error) {
	fd := -1
	n := 0
	return func() (int, error) {
		var err error
		if fd < 0 {
			if fd, err = unix.InotifyInit1(0); err != nil {
				return 0, err
			}
		}
		name := "/tmp/watched-" + strconv.Itoa(n)
		n++
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return 0, err
		}
		_, err = unix.InotifyAddWatch(fd, name, unix.IN_MODIFY)
		return 0, err
	}
}

// signals has real-time signals wait, which are blocked.
func signals() (int, error) {
	var set unix.Sigset_t
	for i := range set.Val {
		set.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return 0, err
	}
	return 128, unix.Kill(os.Getpid(), 40)
}

var queues int

func mqueue() (int, error) {
	queues++
	name, err := unix.BytePtrFromString(fmt.Sprint("q", queues))
	if err != nil {
		return 0, err
	}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, pointer(name), unix.O_CREAT|unix.O_RDWR|unix.O_NONBLOCK, 0o600, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	total := 0
	for {
		if _, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, fd, pointer(&payload[0]), 8192, 0, 0, 0); errno != 0 {
			return total, nil
		}
		total += 8192
	}
}

// aio makes rings of asynchronous I/O, whose events the kernel counts for all
// users of the host together.
func aio() (int, error) {
	var ring uintptr
	const events = 1024
	_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, events, uintptr(unsafe.Pointer(&ring)), 0)
	if errno != 0 {
		return 0, errno
	}
	return events, nil
}

// openNetlink opens and closes sockets, many at once and in turn.
func openNetlink() (int, error) {
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			var err error
			for range 10 {
				if _, err = net.Interfaces(); err != nil {
					break
				}
			}
			errs <- err
		}()
	}
	var all error
	for range cap(errs) {
		all = errors.Join(all, <-errs)
	}
	return 0, all
}

func pointer(b *byte) uintptr { return uintptr(unsafe.Pointer(b)) }
