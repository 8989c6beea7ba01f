// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/testkit"
)

// groupsOf lists the groups of a process in the hierarchies of service managers.
func groupsOf(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); f[1] == "" || strings.HasPrefix(f[1], "name=") {
			found = append(found, f[2])
		}
	}
	return found
}

// TestOutside: what is started outside has left this process's groups from its
// first moment, this process itself has not, and the next of the same instance
// ends what is left.
func TestOutside(t *testing.T) {
	testkit.RequireRoot(t)
	p, err := Open(t.Context(), instance(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.out.named) == 0 && p.out.unified == nil {
		t.Skip("no hierarchy here is one of a service manager")
	}
	own := groupsOf(t, os.Getpid())
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = p.Born(&syscall.SysProcAttr{})
	for range 20 { // on whichever threads
		p.Outside(func(err error) {
			if err != nil || unix.Gettid() == os.Getpid() {
				t.Errorf("on thread %d: %v", unix.Gettid(), err)
			}
			if cmd.Process == nil {
				if err := cmd.Start(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if cmd.Process == nil {
		t.FailNow()
	}
	for i, group := range groupsOf(t, cmd.Process.Pid) {
		if want := "/" + p.rel + "/" + outsideName; group != want {
			t.Errorf("it was born in %s, want %s", group, want)
		}
		if now := groupsOf(t, os.Getpid())[i]; now != own[i] {
			t.Errorf("this process is in %s, was in %s", now, own[i])
		}
	}
	next, err := Open(t.Context(), instance(t))
	if err != nil {
		t.Fatal(err)
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
	if err := next.Close(context.Background()); err != nil {
		t.Error(err)
	}
	for _, dir := range append(p.out.named, next.out.named...) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}
