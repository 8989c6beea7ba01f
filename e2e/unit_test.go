// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// unit is a service as a service manager keeps it: a control group in every
// hierarchy by which one knows a service's processes.
type unit struct {
	t    *testing.T
	dirs []string
}

// newUnit makes a unit, and a program that enters it and becomes bin/thaw.
func newUnit(t *testing.T) (u *unit, program string) {
	t.Helper()
	testkit.RequireRoot(t)
	u = &unit{t: t}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh -e\n"
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if f[2] != "cgroup2" && (f[2] != "cgroup" || !strings.Contains(f[3], "name=")) {
			continue
		}
		dir := filepath.Join(f[1], fmt.Sprintf("thaw-test-%d.service", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		u.dirs = append(u.dirs, dir)
		script += "echo $$ >" + dir + "/cgroup.procs\n"
	}
	if len(u.dirs) == 0 {
		t.Skip("no control group hierarchy here is one of a service manager")
	}
	t.Cleanup(func() {
		for _, dir := range u.dirs {
			until(t.Context(), t, "the unit to be empty", func() bool { return !errors.Is(syscall.Rmdir(dir), syscall.EBUSY) })
		}
	})
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), "thaw")
	// The client is not of the service.
	script = "#!/bin/sh -e\n[ \"$1\" != serve ] || {\n" + strings.TrimPrefix(script, "#!/bin/sh -e\n") + "}\nexec " + root + "/bin/thaw \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return u, program
}

// signal sends a signal to every process of the unit, and tells how many there
// were.
func (u *unit) signal(s syscall.Signal) int {
	u.t.Helper()
	var pids []int
	for _, dir := range u.dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return err
			}
			text, err := os.ReadFile(path)
			for _, line := range bytes.Fields(text) {
				if pid, err := strconv.Atoi(string(line)); err == nil && pid > 1 && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return err
		})
		if err != nil {
			u.t.Error(err)
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			u.t.Error(err)
		}
	}
	return len(pids)
}

// TestServiceManagerStops stops a server as systemd does by default, which sends
// SIGTERM to every process of the unit: the functions' own are not of it, so what
// is in flight finishes. SIGKILL to all of the unit leaves nothing that the next
// start does not remove.
func TestServiceManagerStops(t *testing.T) {
	for _, kind := range []string{"jail", "oci"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "oci" {
				testkit.RequireTool(t, "crun")
			}
			u, program := newUnit(t)
			server, err := livetest.StartProgram(t.Context(), program, t.TempDir(), "--sandbox", kind)
			if err != nil {
				t.Fatal(err)
			}
			w := worldOf(t, server)
			w.stopsWithItsUnit(u)
		})
	}
}

func (w *world) stopsWithItsUnit(u *unit) {
	t, ctx := w.t, w.t.Context()
	census := newCensus(t, w.Data)
	client := w.create(ctx, "sleep", w.push("probe:1", "sleep:v1"))
	if _, err := client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: new("sleep"), Timeout: new(int32(20))}); err != nil {
		t.Fatal(err)
	}
	invoke(ctx, t, client, "sleep", `{"pid":true}`)
	census.note()
	var running sync.WaitGroup
	for range 2 { // one in a sandbox that was there, one in a new one
		running.Go(func() {
			if got, failed := invoke(ctx, t, client, "sleep", `{"sleep":2}`); failed != "" || got != `"slept"` {
				t.Errorf("in flight at SIGTERM: %s %s", failed, got)
			}
		})
	}
	w.waitFor("both running", func() bool {
		text, err := w.Thaw(ctx, "logs", "sleep")
		return err == nil && strings.Count(text, "START") == 3
	})
	time.Sleep(100 * time.Millisecond) // into the handler
	census.note()
	if n := u.signal(syscall.SIGTERM); n < 3 {
		t.Errorf("%d processes are of the unit, want the server, its loader and its holder at least", n)
	}
	running.Wait()
	w.waitFor("the server's end", func() bool { return syscall.Kill(w.PID(), 0) != nil })
	if !strings.HasSuffix(w.Log.String(), "msg=stopped\n") {
		t.Error("the server did not end well")
	}
	if n := u.signal(syscall.SIGKILL); n != 0 {
		t.Errorf("%d processes of the unit are left", n)
	}
	census.check()

	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got, failed := invoke(ctx, t, client, "sleep", `{"pid":true}`); failed != "" {
		t.Errorf("after the stop: %s %s", failed, got)
	}
	census.note()
	w.waitFor("the unit's end", func() bool { return u.signal(syscall.SIGKILL) == 0 })
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got, failed := invoke(ctx, t, client, "sleep", `{"pid":true}`); failed != "" {
		t.Errorf("after SIGKILL: %s %s", failed, got)
	}
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
	census.check()
	if err := w.Run(ctx); err != nil { // for the world's own end
		t.Fatal(err)
	}
}
