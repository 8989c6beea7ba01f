// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// try attempts what a sandbox must not be able to do, and tells the outcome of
// each. sandboxtest holds the outcomes that are right.
func try(args []string) {
	runtime.LockOSThread()
	results := map[string]string{}
	for name, attempt := range attempts() {
		results[name] = outcome(attempt())
	}
	for _, address := range args {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		results["connect "+address] = outcome(err)
	}
	answer(results)
}

// attempts are the things that a function must not be able to do, by name.
func attempts() map[string]func() error {
	return map[string]func() error{
		"write to root":       func() error { return os.WriteFile("/new", nil, 0o644) },
		"write to image file": func() error { return appendTo("/open") },
		"write to etc":        func() error { return appendTo("/etc/hosts") },
		"remount root":        func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT, "") },
		"mount tmpfs":         func() error { return unix.Mount("x", "/tmp", "tmpfs", 0, "") },
		"mount proc":          func() error { return unix.Mount("proc", "/tmp", "proc", 0, "") },
		"umount proc":         func() error { return unix.Unmount("/proc", unix.MNT_DETACH) },
		"fsopen":              func() error { _, err := unix.Fsopen("tmpfs", 0); return err },
		"open_tree":           func() error { _, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE); return err },
		"pivot_root":          func() error { return unix.PivotRoot("/", "/tmp") },
		"chroot":              func() error { return unix.Chroot("/tmp") },
		"unshare user":        func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"unshare mount":       func() error { return unix.Unshare(unix.CLONE_NEWNS) },
		"clone user":          cloneUser,
		"setns":               setns,
		"become root":         func() error { return rawSetuid(0) },
		"become root group":   func() error { return rawSetgid(0) },
		"keep groups":         func() error { return unix.Setgroups([]int{0}) },
		"keyctl":              func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err },
		"add_key": func() error {
			_, err := unix.AddKey("user", "x", []byte("y"), unix.KEY_SPEC_SESSION_KEYRING)
			return err
		},
		"bpf":                  func() error { return raw(unix.SYS_BPF, 0, 0, 0) },
		"perf_event_open":      func() error { return raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) },
		"io_uring":             func() error { return raw(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
		"userfaultfd":          func() error { return raw(unix.SYS_USERFAULTFD, 0, 0, 0) },
		"init_module":          func() error { return raw(unix.SYS_INIT_MODULE, 0, 0, 0) },
		"kexec":                func() error { return raw(unix.SYS_KEXEC_LOAD, 0, 0, 0) },
		"reboot":               func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) },
		"swapon":               func() error { return raw(unix.SYS_SWAPOFF, 0, 0, 0) },
		"set time":             func() error { return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1}) },
		"set host name":        func() error { return unix.Sethostname([]byte("owned")) },
		"write sysctl":         func() error { return appendTo("/proc/sys/kernel/hostname") },
		"write core pattern":   func() error { return appendTo("/proc/sys/kernel/core_pattern") },
		"sysrq":                func() error { return appendTo("/proc/sysrq-trigger") },
		"write sysfs":          func() error { return appendTo("/sys/kernel/mm/ksm/run") },
		"write own cgroup":     func() error { return appendTo("/sys/fs/cgroup/memory/memory.limit_in_bytes") },
		"make cgroup":          func() error { return os.Mkdir("/sys/fs/cgroup/memory/x", 0o755) },
		"kernel log":           func() error { return raw(unix.SYS_SYSLOG, 3, 0, 0) },
		"make block device":    func() error { return unix.Mknod("/tmp/disk", unix.S_IFBLK|0o666, 0xfe00) },
		"make char device":     func() error { return unix.Mknod("/tmp/mem", unix.S_IFCHR|0o666, 0x101) },
		"open image device":    func() error { return openFile("/image-device") },
		"raw socket":           func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
		"packet socket":        func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
		"vsock":                func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
		"crypto socket":        func() error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) },
		"raise files":          func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}) },
		"raise priority":       func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -10) },
		"real-time":            realTime,
		"trace process 1":      func() error { return ofFirst(func() error { return unix.PtraceAttach(1) }) },
		"kill process 1":       func() error { return ofFirst(func() error { return syscall.Kill(1, syscall.SIGKILL) }) },
		"read process 1":       func() error { return ofFirst(func() error { _, err := os.ReadFile("/proc/1/environ"); return err }) },
		"open process 1 root":  func() error { return ofFirst(func() error { _, err := os.ReadDir("/proc/1/root/"); return err }) },
		"read kcore":           func() error { return readSome("/proc/kcore") },
		"read secret":          func() error { return readSome("/secret") },
		"setuid program":       func() error { return escalated("/setuid-probe") },
		"capability program":   func() error { return escalated("/capability-probe") },
		"execute /tmp":         executeTmp,
		"personality":          func() error { return raw(unix.SYS_PERSONALITY, 0x0400000, 0, 0) },
		"open by handle":       func() error { return raw(unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), 0, 0) },
		"drop oom score":       func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) },
		"lower oom score":      func() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("599"), 0) }, // below guard.Sandbox
		"ioctl inject to tty":  func() error { return raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&[]byte{'x'}[0]))) },
		"listen on API's port": func() error { return listen("127.0.0.1:9001") },
	}
}

func raw(call, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func rawSetuid(id uintptr) error { return raw(unix.SYS_SETRESUID, id, id, id) }
func rawSetgid(id uintptr) error { return raw(unix.SYS_SETRESGID, id, id, id) }

func appendTo(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("1")
	return err
}

func openFile(path string) error {
	f, err := os.Open(path)
	if err == nil {
		_ = f.Close()
	}
	return err
}

// readSome fails like the read, or with ENODATA where there is nothing.
func readSome(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, _ := f.Read(make([]byte, 64)); n == 0 {
		return syscall.ENODATA
	}
	return nil
}

func socket(domain, kind, protocol int) error {
	fd, err := unix.Socket(domain, kind, protocol)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func cloneUser() error {
	cmd := exec.Command("/proc/self/exe", "exit", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	return cmd.Run()
}

func setns() error {
	fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, 0)
}

func realTime() error {
	var param struct{ priority int32 }
	param.priority = 10
	return raw(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
}

// ofFirst attempts something on process 1, where that is somebody else.
func ofFirst(attempt func() error) error {
	if os.Getpid() == 1 {
		return syscall.EPERM
	}
	return attempt()
}

// escalated runs a program that the image marks as privileged, and fails as it
// should if that gave it nothing.
func escalated(path string) error {
	out, err := exec.Command(path, "look").Output()
	if err != nil {
		return err
	}
	text := string(out)
	for _, want := range []string{
		`"CapEff":"0000000000000000"`, `"CapPrm":"0000000000000000"`, `"Uid":"993\t993\t993\t993"`, `"Gid":"990\t990\t990\t990"`,
	} {
		if !contains(text, want) {
			return nil
		}
	}
	return syscall.EPERM
}

func contains(s, sub string) bool {
	for i := 0; i+len(sub) <= len(s); i++ {
		if s[i:i+len(sub)] == sub {
			return true
		}
	}
	return false
}

// executeTmp shows that programs in /tmp can be executed, as functions do.
func executeTmp() error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	path := "/tmp/program-" + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(path, program, 0o755); err != nil {
		return err
	}
	defer os.Remove(path)
	return exec.Command(path, "exit", "0").Run()
}

func listen(address string) error {
	l, err := net.Listen("tcp4", address)
	if err == nil {
		_ = l.Close()
	}
	return err
}
