// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"runtime"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// System calls by what a process needs them for. A list of what is denied, and
// not of what is allowed: what Go's runtime calls differs by version.
var (
	// never are for nobody: the kernel itself, other processes, the machine.
	never = []string{
		"acct", "add_key", "adjtimex", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init", "finit_module",
		"init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
		"lookup_dcookie", "modify_ldt", "move_pages", "migrate_pages", "nfsservctl", "open_by_handle_at", "perf_event_open", "personality", "pidfd_getfd",
		"pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "quotactl_fd", "reboot", "request_key",
		"setdomainname", "setgroups", "setgid", "sethostname", "setns", "setregid", "setresgid", "setresuid", "setreuid", "settimeofday", "setuid",
		"swapoff", "swapon", "syslog", "unshare", "uselib", "userfaultfd", "vhangup",
	}
	executes = []string{"execve", "execveat"}
	mounts   = []string{"fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "umount2"}
	connects = []string{"accept", "accept4", "bind", "connect", "listen", "socket", "socketpair"}
)

// deny has the calls fail with EPERM from now on, in all threads, and privileges
// come from no program that is executed. Calls in the way of another
// architecture fail altogether: their numbers are others.
func deny(names []string) error {
	program, err := compile(names)
	if err != nil {
		return err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	runtime.LockOSThread() // the two calls are one thread's; the second reaches the others
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}

// refuse is what a call that is denied ends with.
const refuse = seccomp.ActionErrno | seccomp.Action(unix.EPERM)

// compile makes the filter.
func compile(names []string) ([]bpf.Instruction, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	var known []string // iopl is not everywhere
	for _, name := range names {
		if _, ok := info.SyscallNames[name]; ok {
			known = append(known, name)
		}
	}
	policy := seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{{Names: known, Action: refuse}}}
	program, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	const offsetArch, wordBytes = 4, 4 // of struct seccomp_data
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: wordBytes},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1},
		bpf.RetConstant{Val: uint32(refuse)},
	}, program...), nil
}
