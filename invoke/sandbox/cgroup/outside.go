// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"thaw.dev/thaw"
)

// outside is one group for whatever the instance starts for sandboxes, in the
// hierarchies by which a service manager knows the processes of a service: those
// that have a name instead of controllers, and the unified one. Without it the
// functions' processes would belong to the server's own service there, and the
// manager would end them together with the server, in the midst of invocations
// that the server waits for. It belongs to the instance and not to a sandbox, so
// that a start has nothing to do for it: processes are born there.
type outside struct {
	named   []string // its directories in the hierarchies of v1
	unified *os.File // that in the unified hierarchy; nil where there is none
}

// outsideName is the group's name beside those of sandboxes.
const outsideName = ".outside"

// tracks reports whether a hierarchy tells services apart.
func (m *mount) tracks() bool {
	return m.v2 || slices.ContainsFunc(m.options, func(o string) bool { return strings.HasPrefix(o, "name=") })
}

// makeOutside makes the group where the host lets us. A hierarchy that can't be
// written, as in some containers, has no manager that acts on us.
func (p *Parent) makeOutside(mounts []mount) error {
	for _, m := range mounts {
		if !m.tracks() {
			continue
		}
		dir := filepath.Join(m.dir, p.rel, outsideName)
		err := makeDir(dir)
		if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
			continue
		}
		if err != nil {
			return thaw.Wrap("cgroup: open", err)
		}
		if !m.v2 {
			p.out.named = append(p.out.named, dir)
		} else if p.out.unified, err = os.Open(dir); err != nil {
			return thaw.Wrap("cgroup: open", err)
		}
	}
	return nil
}

// makeDir makes a group and those above it, which another instance's end may
// take away meanwhile.
func makeDir(dir string) (err error) {
	for range openAttempts {
		if err = os.MkdirAll(dir, 0o755); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return err
}

// Outside runs f on a thread of its own, which ends with f. What f starts there
// with what [Parent.Born] says is born outside of this process's own groups. The
// argument of f says if that failed. f must return before Close.
func (p *Parent) Outside(f func(error)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: Go ends the thread with the goroutine
		if syscall.Gettid() == os.Getpid() {
			p.Outside(f) // but never the first thread, so that it is held here meanwhile
			runtime.UnlockOSThread()
			return
		}
		f(p.moveThread())
	}()
	<-done
}

// moveThread moves the calling thread.
func (p *Parent) moveThread() error {
	for _, dir := range p.out.named {
		if err := write(dir, "tasks", strconv.Itoa(syscall.Gettid())); err != nil {
			return thaw.Wrap("cgroup: outside", err)
		}
	}
	return nil
}

// Born completes how a process is started within [Parent.Outside].
func (p *Parent) Born(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	if p.out.unified != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(p.out.unified.Fd())
	}
	return attr
}

// killOutside kills what is left in the group, given its directory: what an
// earlier process of the instance started. Its own threads are not that.
func killOutside(dir string) {
	text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for line := range strings.Lines(string(text)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
