// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fork makes processes that make processes, until the kernel gives no more.
func fork(ctx context.Context) string {
	signal.Ignore(syscall.SIGCHLD) // nobody waits for them
	told := ""
	for n := 0; ctx.Err() == nil; n++ {
		pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 && errno == 0 {
			bomb()
		}
		if errno != 0 {
			if told == "" {
				told = fmt.Sprintf("fork: %v", errno)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return told
}

// bomb forks for ever. It is a process of one thread, which Go's scheduler does
// not run in: nothing but system calls may be made.
//
//go:nosplit
//go:norace
func bomb() {
	for {
		syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	}
}

// sockets fills the send buffers of connections to itself, which nobody reads.
func sockets(ctx context.Context) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	defer listener.Close()
	go func() {
		var held []net.Conn // so that nothing closes them
		for {
			c, err := listener.Accept()
			if err != nil {
				for _, c := range held {
					_ = c.Close()
				}
				return
			}
			_ = c.(*net.TCPConn).SetReadBuffer(8 << 20)
			held = append(held, c)
		}
	}()
	told, queued, block := "", 0, make([]byte, 64<<10)
	for ctx.Err() == nil {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			told = err.Error()
			break
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetWriteBuffer(8 << 20)
		for ctx.Err() == nil {
			_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			n, err := c.Write(block)
			queued += n
			if err != nil {
				break
			}
		}
	}
	<-ctx.Done()
	return fmt.Sprintf("queued %d MiB; %s", queued>>20, told)
}

// watches makes inotify instances, and watches of folders in each.
func watches(ctx context.Context) string {
	dirs := make([]string, 1000)
	for i := range dirs {
		dirs[i] = fmt.Sprintf("/tmp/watched-%d", i)
		_ = os.Mkdir(dirs[i], 0o700)
	}
	instances, made, told := 0, 0, ""
	for ctx.Err() == nil && told == "" {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			told = fmt.Sprintf("inotify_init: %v", err)
			break
		}
		instances++
		for _, dir := range dirs {
			if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_ALL_EVENTS); err != nil {
				told = fmt.Sprintf("inotify_add_watch: %v", err)
				break
			}
			made++
		}
	}
	<-ctx.Done()
	return fmt.Sprintf("%s (after %d instances, %d watches)", told, instances, made)
}

// connections makes connections to addresses that nobody answers at, as fast as
// it can: each is a row of the host's table where there is a network.
func connections(ctx context.Context) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	sent, told := 0, ""
	for n := 0; ctx.Err() == nil; n++ {
		to := &unix.SockaddrInet4{Port: 1024 + n%60000, Addr: [4]byte{203, 0, 113, byte(n / 60000)}}
		if err := unix.Sendto(fd, []byte{0}, 0, to); err != nil {
			told = err.Error()
			time.Sleep(time.Millisecond)
			continue
		}
		sent++
	}
	return fmt.Sprintf("%d sent; %s", sent, told)
}
