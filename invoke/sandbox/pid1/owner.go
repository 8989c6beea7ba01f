// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// OwnedBy runs start on a thread whose effective user is the first of a slot's
// ids, so that the user namespace that start makes belongs to that user. The
// kernel counts what its users may have many of (inotify instances and watches,
// see namespaces(7) and /proc/sys/user) for the namespace's owner too: if root
// owned them all, one sandbox could take what the others and the host need.
// Nobody else has that id, and the thread keeps its capabilities.
func OwnedBy(slot int, start func() (*os.Process, error)) (process *os.Process, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := effectiveUser(HostID(slot)); err != nil {
		return nil, thaw.Wrap("sandbox: owner", errors.Join(err, effectiveUser(0)))
	}
	process, err = start()
	if back := effectiveUser(0); back != nil {
		runtime.LockOSThread() // for good: this thread must not serve others
		err = errors.Join(err, thaw.Wrap("sandbox: owner", back))
	}
	return process, err
}

// effectiveUser changes the effective user of the calling thread and keeps its
// capabilities, which the kernel takes from a user other than root.
func effectiveUser(id int) error {
	const same = ^uintptr(0)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return err
	}
	// Not package syscall's, which changes every thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(id), same); errno != 0 {
		return errno
	}
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return err
	}
	// A change of the user makes the whole process one that leaves no dump.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}
