// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lastCapability bounds the search for capabilities: the kernel's mask has 64.
const lastCapability = 63

// restrict takes away what no step after it needs: capabilities that an
// executed program could get, and privileges through execution at all.
func restrict() error {
	for c := range uintptr(lastCapability + 1) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL {
			break // past this kernel's last capability
		} else if err != nil {
			return step("drop capability", err)
		}
	}
	return step("no_new_privs", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// install puts the seccomp filter in force for this process, all its threads
// and what it executes.
func install(filter []byte) error {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	if len(filter) < size {
		return step("seccomp filter", unix.EINVAL)
	}
	prog := unix.SockFprog{Len: uint16(len(filter) / size), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return step("seccomp", errno)
	}
	return nil
}

// surrender gives up the capabilities of init itself, on every thread: from
// here on it waits, writes to a socket and exits.
func surrender() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&none)
	if errno != 0 {
		return step("give up capabilities", errno)
	}
	return nil
}
