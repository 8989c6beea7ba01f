// SPDX-License-Identifier: Apache-2.0

// Package guard takes from a process of thaw what it does not use, and says
// which of them the kernel is to kill first when memory runs out: sandboxes
// before a process that makes an image, that before the loader with its cache,
// that before the server, and the holder last, which is the smallest and without
// which functions lose their images.
package guard

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Role is what a process of thaw is for.
type Role struct {
	score  int // its oom_score_adj; and where the host lets nobody lower it:
	raised int
	keep   []uintptr // capabilities; all others go
	denied []string  // system calls that fail; nil leaves all of them
}

// Sandbox is the oom_score_adj of a sandbox's first process, below which no
// process of the sandbox can set its own. It is above that of every process here.
const Sandbox = 600

// The roles. All run as root, so that the data folder stays root's; whoever else
// owns it must not keep them out.
var (
	// Server mounts, makes sandboxes and networks, and executes OCI runtimes. It
	// has no filter of system calls: sandboxes and runtimes would inherit it.
	Server = Role{score: -900, keep: []uintptr{
		unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_MKNOD,
		unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_SETFCAP, unix.CAP_SYS_CHROOT,
		unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_NICE, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE,
	}}
	// Holder mounts the images' files, and at its end unmounts them.
	Holder = Role{score: -950, keep: []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_SYS_ADMIN}, denied: slices.Concat(never, executes)}
	// Loader serves the files' bytes.
	Loader = Role{score: -500, raised: 100, keep: []uintptr{unix.CAP_DAC_OVERRIDE}, denied: slices.Concat(never, executes, mounts)}
	// Ingest unpacks what strangers have pushed; the server gives it what it needs.
	Ingest = Role{score: 300, raised: 300, keep: []uintptr{unix.CAP_DAC_OVERRIDE}, denied: slices.Concat(never, executes, mounts, connects)}
)

// Executing returns the role of a process that executes other programs.
func (r Role) Executing() Role {
	r.denied = slices.DeleteFunc(slices.Clone(r.denied), func(name string) bool { return slices.Contains(executes, name) })
	return r
}

// Confine puts the role in force for this process, all its threads and, but for
// the score, whatever it starts. It can't be undone. Without CAP_SYS_RESOURCE no
// process can protect itself from being killed; those that go before the server
// then have a score above its. Call it before anything of others is read.
func (r Role) Confine() error {
	const op = "give up rights"
	if err := r.setScore(); err != nil {
		return thaw.Wrap(op, err)
	}
	if err := keepOnly(r.keep); err != nil {
		return thaw.Wrap(op, err)
	}
	if r.denied == nil {
		return nil
	}
	return thaw.Wrap(op, deny(r.denied))
}

const scoreFile = "/proc/self/oom_score_adj"

// setScore leaves a server alone that its operator protects more than this does.
func (r Role) setScore() error {
	text, err := os.ReadFile(scoreFile)
	if err != nil {
		return err
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	if now <= r.score && r.denied == nil {
		return nil
	}
	set := func(score int) error { return os.WriteFile(scoreFile, []byte(strconv.Itoa(score)), 0) }
	if err = set(r.score); errors.Is(err, os.ErrPermission) {
		return set(max(now, r.raised))
	}
	return err
}

// lastCapability bounds the search for capabilities: the kernel's mask has 64.
const lastCapability = 63

// keepOnly gives up all other capabilities, also those that an executed program
// would get.
func keepOnly(keep []uintptr) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	for c := range uintptr(lastCapability + 1) {
		if slices.Contains(keep, c) {
			continue
		}
		_, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		if errno == unix.EINVAL || errno == unix.EPERM { // past the last one; or this process has no right to do so, and less to lose
			break
		}
		if errno == unix.ENOTSUP {
			return thaw.Errorf("", thaw.Unavailable, "a program that is linked with cgo can't: build it with CGO_ENABLED=0, as \"make build\" does")
		}
		if errno != 0 {
			return errno
		}
	}
	var mask [2]uint32
	for _, c := range keep {
		mask[c/32] |= 1 << (c % 32)
	}
	for i := range have {
		have[i].Effective &= mask[i]
		have[i].Permitted &= mask[i]
		have[i].Inheritable = 0
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&have[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&have)
	if errno != 0 {
		return errno
	}
	return nil
}
