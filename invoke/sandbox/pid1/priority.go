// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"errors"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// ioprioProcess is IOPRIO_WHO_PROCESS of ioprio_set(2).
const ioprioProcess = 1

// Ordinary gives process 1 of a sandbox, before it starts anything, the priority
// that programs have by default: a function must not inherit the server's, which
// a service manager may have set. A host that does not let the server change it
// back keeps it.
func Ordinary(pid int) error {
	err := unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioProcess, uintptr(pid), 0); errno != 0 {
		err = errors.Join(err, errno)
	}
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return thaw.Wrap("sandbox: priority", err)
}
