// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// keptPart of the process ids that the kernel has is kept for the host.
const keptPart = 4

// keepPids bounds what the sandboxes of all instances together have of the
// kernel's processes and threads.
func (p *Parent) keepPids() error {
	most, err := mostPids("/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max")
	if err != nil {
		return err
	}
	dir := ""
	switch h := p.h.(type) {
	case *v1:
		dir = h.pids
	case *v2:
		dir = h.root
	}
	return write(filepath.Join(dir, folder), "pids.max", strconv.FormatInt(most-most/keptPart, 10))
}

// mostPids returns the least number that files hold.
func mostPids(files ...string) (int64, error) {
	var all []int64
	var errs []error
	for _, file := range files {
		n, err := readInt(file)
		all, errs = append(all, n), append(errs, err)
	}
	return slices.Min(all), errors.Join(errs...)
}

// Uncounted says, in words for the operator's log, what of the sandboxes' use
// of the kernel's memory the groups do not count on this host, and what to do
// about it: a function can then take such memory from the others. It returns
// nothing if all is counted.
func (p *Parent) Uncounted() []string {
	text, _ := os.ReadFile("/proc/cmdline")
	h, legacy := p.h.(*v1)
	var missing []string
	for option, what := range map[string]string{
		"nosocket": "what waits in sockets", "nokmem": "memory that the kernel takes for a function's files, pipes and processes",
	} {
		if bootedWith(string(text), option) {
			missing = append(missing, what+": boot without cgroup.memory="+option)
		}
	}
	if legacy {
		if _, err := os.Stat(filepath.Join(h.mem, socketsFile)); err != nil {
			missing = append(missing, "what waits in sockets: this kernel counts that on cgroup v2 only")
		}
	}
	slices.Sort(missing)
	return missing
}

// bootedWith reports whether the kernel's command line has an option of
// cgroup.memory=.
func bootedWith(cmdline, option string) bool {
	for field := range strings.FieldsSeq(cmdline) {
		if list, ok := strings.CutPrefix(field, "cgroup.memory="); ok && slices.Contains(strings.Split(list, ","), option) {
			return true
		}
	}
	return false
}

// SharesDisk reports whether the kernel knows whose writes reach a disk, and so
// slows down who writes much, and no others.
func (p *Parent) SharesDisk() bool {
	h, ok := p.h.(*v2)
	return ok && slices.Contains(h.controllers, "io")
}
