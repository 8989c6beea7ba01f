// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// pidOf is the process that a file of the read path names: "loader" or "holder".
func (w *world) pidOf(name string) int {
	w.t.Helper()
	var id struct{ PID int }
	w.waitFor("the pid file of the "+name, func() bool { // it is absent while one succeeds another
		text, err := os.ReadFile(filepath.Join(w.Data, "run", "read", name+".pid"))
		return err == nil && json.Unmarshal(text, &id) == nil && id.PID > 1
	})
	return id.PID
}

// waitFor waits until a condition holds; it is a guard against hanging.
func (w *world) waitFor(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// attempt is an invocation that may meet trouble of the host: it answers, or
// fails with a status of 500 or more. It never fails as the function's or the
// caller's fault, and never answers wrongly.
func attempt(ctx context.Context, t *testing.T, client *lambda.Client, name, payload, want string) (answered bool) {
	t.Helper()
	out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload)})
	switch {
	case err != nil && !isServerFault(err):
		t.Errorf("%s: %v", name, err)
	case err == nil && out.FunctionError != nil:
		t.Errorf("%s: %s: %s", name, aws.ToString(out.FunctionError), out.Payload)
	case err == nil && want != "" && string(out.Payload) != want:
		t.Errorf("%s answered %s, want %s", name, out.Payload, want)
	}
	return err == nil
}

// isServerFault reports whether the answer's status was 500 or more.
func isServerFault(err error) bool {
	status, ok := errors.AsType[*awshttp.ResponseError](err)
	return ok && status.HTTPStatusCode() >= 500
}

const lostText = "mounted images are lost"

// lossWorld is a server with functions on one image in every state that a loss
// of its mount can meet: reading what is not cached, asleep, warm and frozen.
type lossWorld struct {
	*world
	client *lambda.Client
	want   string // the answer of hash
}

func newLossWorld(t *testing.T) *lossWorld {
	t.Helper()
	w := &lossWorld{world: newWorld(t)}
	ctx := t.Context()
	ref := w.push("py-hello-probe:1", "hash:v1")
	for _, name := range []string{"hash", "sleep", "warm"} {
		w.client = w.create(ctx, name, ref)
		invoke(ctx, t, w.client, name, `{"pid":true}`)
	}
	want, failed := invoke(ctx, t, w.client, "hash", `{"hash":"/usr"}`)
	if failed != "" {
		t.Fatalf("hash: %s: %s", failed, want)
	}
	w.want = want
	return w
}

// lose runs invocations while strike takes the mount away, and checks that all
// answer once that is noticed, from new sandboxes where the mount was lost. It
// reports whether it was.
func (w *lossWorld) lose(round int, strike func()) bool {
	w.t.Helper()
	ctx := w.t.Context()
	losses, loader, holder := strings.Count(w.Log.String(), lostText), w.pidOf("loader"), w.pidOf("holder")
	before, _ := invoke(ctx, w.t, w.client, "warm", `{"pid":true}`)
	time.Sleep(100 * time.Millisecond) // it is frozen by then, or nearly
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() { attempt(ctx, w.t, w.client, "hash", `{"hash":"/usr"}`, w.want) })
	}
	running.Go(func() { attempt(ctx, w.t, w.client, "sleep", `{"sleep":0.3}`, `"slept"`) })
	time.Sleep(time.Duration(round%7) * 20 * time.Millisecond) // into the start, or the reads
	strike()
	w.waitFor("successors", func() bool { return w.pidOf("loader") != loader && w.pidOf("holder") != holder })
	lost := strings.Count(w.Log.String(), lostText) > losses
	after, failed := invoke(ctx, w.t, w.client, "warm", `{"pid":true}`)
	if failed != "" || lost == (after == before) {
		w.t.Errorf("round %d: lost %v; warm answered %s %s, before it was %s", round, lost, failed, after, before)
	}
	running.Wait()
	for name, payload := range map[string]string{"hash": `{"hash":"/usr"}`, "sleep": `{"sleep":0.01}`} {
		if got, failed := invoke(ctx, w.t, w.client, name, payload); failed != "" || name == "hash" && got != w.want {
			w.t.Errorf("round %d: %s afterwards: %s %s", round, name, failed, got)
		}
	}
	return lost
}

// TestLoaderAndHolderKilledTogether kills both processes of the read path within
// milliseconds, while functions read, sleep and are frozen: what is in flight
// fails at most as the server's fault, and what comes next answers.
func TestLoaderAndHolderKilledTogether(t *testing.T) {
	w := newLossWorld(t)
	trials := 20
	if testing.Short() {
		trials = 4
	}
	losses := 0
	for round := range trials {
		if w.lose(round, func() {
			pids := []int{w.pidOf("loader"), w.pidOf("holder")}
			if round%2 == 1 {
				pids[0], pids[1] = pids[1], pids[0]
			}
			for i, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					time.Sleep(time.Duration(round/2%4) * 2 * time.Millisecond)
				}
			}
		}) {
			losses++
		}
	}
	if losses < trials/2 { // else the second was killed too late, each time
		t.Errorf("only %d of %d trials lost the mount", losses, trials)
	}
	if mounts := mountsBelow(t, filepath.Join(w.Data, "run", "read", "mnt")); len(mounts) > 4 {
		t.Errorf("mounts pile up: %q", mounts)
	}
}

// TestMountTakenAway has an operator take the mount of the images' files away, in
// each of the ways that there are.
func TestMountTakenAway(t *testing.T) {
	w := newLossWorld(t)
	files := filepath.Join(w.Data, "run", "read", "files")
	ctl := t.TempDir()
	if err := syscall.Mount("fusectl", ctl, "fusectl", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(ctl, syscall.MNT_DETACH) }()
	for round, strike := range []func() error{
		func() error { return ignoreBusy(syscall.Unmount(files, syscall.MNT_FORCE)) },
		func() error { return syscall.Unmount(files, syscall.MNT_DETACH) },
		func() error {
			return os.WriteFile(filepath.Join(ctl, minorOf(t, files), "abort"), []byte("1"), 0)
		},
	} {
		if !w.lose(round, func() {
			if err := strike(); err != nil {
				t.Fatal(err)
			}
		}) {
			t.Errorf("way %d did not take the mount away", round)
		}
	}
	// One image, whose sandboxes have mounts of their own.
	for _, dir := range mountsBelow(t, filepath.Join(w.Data, "run", "read", "mnt")) {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.client.UpdateFunctionConfiguration(t.Context(), describe("hash", 1)); err != nil {
		t.Fatal(err)
	}
	if got, failed := invoke(t.Context(), t, w.client, "hash", `{"hash":"/usr"}`); failed != "" || got != w.want {
		t.Errorf("hash on an unmounted image: %s %s", failed, got)
	}
}

// ignoreBusy is for an unmount by force: the connection is aborted, and what is
// mounted from the files stays.
func ignoreBusy(err error) error {
	if err == syscall.EBUSY {
		return nil
	}
	return err
}

// minorOf is the number by which the kernel names the connection of a FUSE mount.
func minorOf(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == dir {
			_, minor, _ := strings.Cut(fields[2], ":")
			return minor
		}
	}
	t.Fatalf("%s is not mounted", dir)
	return ""
}

// TestProcessesReplaced kills, stops and signals the processes of the read path
// one at a time while functions read: every answer is right, and no sandbox is
// another than before.
func TestProcessesReplaced(t *testing.T) {
	w := newLossWorld(t)
	ctx := t.Context()
	for i, c := range []struct {
		process string
		signal  syscall.Signal
	}{{"holder", syscall.SIGKILL}, {"loader", syscall.SIGKILL}, {"loader", syscall.SIGSTOP}, {"holder", syscall.SIGSTOP}, {"holder", syscall.SIGKILL}} {
		if _, err := w.Thaw(ctx, "cache", "drop", "l1"); err != nil {
			t.Error(err)
		}
		if _, err := w.client.UpdateFunctionConfiguration(ctx, describe("hash", i)); err != nil {
			t.Fatal(err)
		}
		before, _ := invoke(ctx, t, w.client, "warm", `{"pid":true}`)
		var reads sync.WaitGroup
		reads.Go(func() {
			if got, failed := invoke(ctx, t, w.client, "hash", `{"hash":"/usr"}`); failed != "" || got != w.want {
				t.Errorf("%v to the %s: hash: %s %s", c.signal, c.process, failed, got)
			}
		})
		pid := w.pidOf(c.process)
		if err := syscall.Kill(pid, c.signal); err != nil {
			t.Fatal(err)
		}
		w.waitFor("a successor of the "+c.process, func() bool { return w.pidOf(c.process) != pid })
		reads.Wait()
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("%v to the %s: process %d is still there", c.signal, c.process, pid)
		}
		if after, _ := invoke(ctx, t, w.client, "warm", `{"pid":true}`); after != before {
			t.Errorf("%v to the %s: warm was %s, is %s", c.signal, c.process, before, after)
		}
	}
	if n := strings.Count(w.Log.String(), lostText); n > 0 {
		t.Errorf("the mount was lost %d times", n)
	}
}

// TestProgramRemoved removes the program, puts another in its place, and removes
// the working directory: the processes that die get successors that are the
// program which runs.
func TestProgramRemoved(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireFUSE(t)
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(root, "bin", "thaw"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "thaw")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := livetest.StartProgram(t.Context(), path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := worldOf(t, server)
	client := w.create(t.Context(), "hello", w.push("go-hello:1", "hello:v1"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for round, put := range []string{"", "#!/bin/false\n"} {
		if put != "" {
			if err := os.WriteFile(path, []byte(put), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, process := range []string{"loader", "holder"} {
			pid := w.pidOf(process)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			w.waitFor("a successor of the "+process, func() bool { return w.pidOf(process) != pid })
		}
		if _, err := client.UpdateFunctionConfiguration(t.Context(), describe("hello", round)); err != nil {
			t.Fatal(err)
		}
		if got, failed := invoke(t.Context(), t, client, "hello", `{"name":"gone"}`); failed != "" || !strings.Contains(got, "hello gone") {
			t.Errorf("round %d: %s %s", round, failed, got)
		}
	}
}
