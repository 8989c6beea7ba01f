// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// The faults of package sandbox, which this program does not import, to stay
// small; a test compares the numbers.
const (
	faultMissing       = 1
	faultNotExecutable = 2
	faultWorkingDir    = 3
)

// defaultPath is where a command without a slash is looked for if the
// environment has no PATH, as in containers.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// oomScore makes the kernel choose the command before init where memory runs
// out.
const oomScore = "1000"

// launch executes the command and returns its process id inside, and its calls
// that this process is to answer. A nil filter is one that is in force already.
func launch(order wire.Start, files passed, filter []byte) (pid int, calls netlinks, err error) {
	if err := limit(order); err != nil {
		return 0, calls, err
	}
	path, err := locate(order)
	if err != nil {
		return 0, calls, err
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, calls, step("open /dev/null", err)
	}
	stdio := []uintptr{uintptr(null), uintptr(null), uintptr(null)}
	if files.stdout >= 0 {
		stdio[1] = uintptr(files.stdout)
	}
	if files.stderr >= 0 {
		stdio[2] = uintptr(files.stderr)
	}
	if filter != nil {
		if err := install(filter); err != nil {
			return 0, calls, err
		}
	}
	if calls, err = guardNetlink(); err != nil {
		return 0, calls, err
	}
	pid, err = syscall.ForkExec(path, order.Args, &syscall.ProcAttr{
		Env: order.Env, Files: stdio,
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(order.UID), Gid: uint32(order.GID)}},
	})
	if err != nil {
		return 0, calls, entryFault(order, path, err)
	}
	for _, fd := range []int{null, files.stdout, files.stderr} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	return pid, calls, nil
}

// stackBytes is the usual limit on a stack, of which the kernel gives a quarter
// to arguments and environment: 2 MiB (package program), whatever limit the
// server happens to have. A program may raise it.
const stackBytes = 8 << 20

// limit sets what the command inherits from this process.
func limit(order wire.Start) error {
	unix.Umask(0o022)
	if err := put("/proc/self/oom_score_adj", oomScore); err != nil {
		return step("oom_score_adj", unix.EACCES)
	}
	for _, l := range []struct {
		what  int
		value uint64
	}{{unix.RLIMIT_NOFILE, uint64(order.Files)}, {unix.RLIMIT_NPROC, uint64(order.Processes)}, {unix.RLIMIT_CORE, 0}, {unix.RLIMIT_STACK, stackBytes}} {
		var old syscall.Rlimit
		if err := syscall.Getrlimit(l.what, &old); err != nil {
			return step("get limit", err)
		}
		value := min(l.value, old.Max) // raising needs a capability of the host
		set := syscall.Rlimit{Cur: value, Max: value}
		if l.what == unix.RLIMIT_STACK {
			set.Max = old.Max
		}
		if err := syscall.Setrlimit(l.what, &set); err != nil {
			return step("set limit", err)
		}
	}
	return confine(order.Machine.CPUs)
}

// confine has the command run on some of the host's processors. That those are
// all offline by now is not an error.
func confine(cpus []string) error {
	var set unix.CPUSet
	for _, text := range cpus {
		if n, err := strconv.Atoi(text); err == nil {
			set.Set(n)
		}
	}
	if err := unix.SchedSetaffinity(0, &set); err != unix.EINVAL {
		return step("set processors", err)
	}
	return nil
}

// locate enters the working directory and finds the command, both with the
// rights of the command's user.
func locate(order wire.Start) (string, error) {
	// Changing the file system's user also takes away the capabilities that
	// override permissions (capabilities(7)).
	_ = unix.Setfsgid(int(order.GID))
	_ = unix.Setfsuid(int(order.UID))
	defer func() {
		_ = unix.Setfsuid(0)
		_ = unix.Setfsgid(0)
	}()
	if err := unix.Chdir(order.Dir); err != nil {
		if denies(err) {
			return "", fault(faultWorkingDir, order.Dir, "", err)
		}
		return "", step("enter "+order.Dir, err)
	}
	name := order.Args[0]
	if strings.Contains(name, "/") {
		return name, entryFault(order, name, executable(name))
	}
	for dir := range strings.SplitSeq(searchPath(order.Env), ":") {
		if dir == "" {
			dir = "."
		}
		path := strings.TrimSuffix(dir, "/") + "/" + name
		switch err := executable(path); {
		case err == nil:
			return path, nil
		case !absent(err) && !denies(err):
			return "", step("execute "+path, err)
		}
	}
	return "", entryFault(order, name, unix.ENOENT)
}

// searchPath is where a command without a slash is looked for.
func searchPath(env []string) string {
	search := defaultPath
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			search = value
		}
	}
	return search
}

// executable returns nil if path is a file that may be executed.
func executable(path string) error {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EACCES // as execve(2) says, of directories too
	}
	return unix.Faccessat2(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// absent reports whether err says that there is nothing of that name.
func absent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// denies reports whether err tells of the image, not of the host.
func denies(err error) bool {
	errno, _ := errors.AsType[unix.Errno](err)
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.EPERM, unix.ELOOP, unix.ENAMETOOLONG,
		unix.ENOEXEC, unix.EISDIR, unix.E2BIG, unix.ELIBBAD, unix.EINVAL:
		return true
	}
	return false
}

func fault(code int64, path, hint string, err error) error {
	errno, _ := errors.AsType[unix.Errno](err)
	return &trouble{wire.Report{Kind: wire.Fault, Code: code, What: path, Errno: int64(errno), Hint: hint}}
}

// entryFault classes why a command can't be executed; nil for nil. ENOENT also
// stands for a missing interpreter or loader.
func entryFault(order wire.Start, path string, err error) error {
	code := int64(faultNotExecutable)
	switch {
	case err == nil:
		return nil
	case absent(err):
		code = faultMissing
	case !denies(err):
		return step("execute "+path, err)
	}
	return fault(code, path, explain(order.Args, order.Env, path, err), err)
}
