// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// initsOf are the first processes of the server's sandboxes, prepared ones
// included.
func (w *world) initsOf() []int {
	w.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		w.t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		var pid, parent int
		var name, state string
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if _, err := fmt.Sscan(string(text), &pid, &name, &state, &parent); err == nil && name == "(thaw-init)" && parent == w.PID() {
			found = append(found, pid)
		}
	}
	return found
}

// TestSignalsThatEndNothing sends what a terminal that closes, an operator who
// presses keys, and a curious one send to every process of the server.
func TestSignalsThatEndNothing(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	client := w.create(ctx, "probe", w.push("probe:1", "probe:v1"))
	before, _ := invoke(ctx, t, client, "probe", `{"pid":true}`)
	inits := w.initsOf()
	if len(inits) == 0 {
		t.Fatal("no sandbox was found")
	}
	loader, holder := w.pidOf("loader"), w.pidOf("holder")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTSTP, syscall.SIGCONT} {
		for _, pid := range []int{w.PID(), loader, holder} {
			if err := syscall.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT} {
		for _, pid := range inits {
			if err := syscall.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} { // the server alone decides
		for _, pid := range []int{loader, holder} {
			if err := syscall.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.waitFor("the stacks of three processes", func() bool { return strings.Count(w.Log.String(), "goroutine 1 [") == 3 })
	if after, failed := invoke(ctx, t, client, "probe", `{"pid":true}`); failed != "" || after != before {
		t.Errorf("the sandbox was %s, is %s %s", before, failed, after)
	}
	for _, pid := range append(inits, w.PID(), loader, holder) {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if text := w.Log.String(); strings.Contains(text, "died") {
		t.Errorf("a process died:\n%s", text)
	}
}

// TestStopAllAtOnce sends SIGTERM to all processes at once, as systemd does: what
// is in flight finishes, reads of what is not cached included, nothing is
// left, and nobody who follows a log holds the end up.
func TestStopAllAtOnce(t *testing.T) {
	w := newLossWorld(t)
	ctx := t.Context()
	census := newCensus(t, w.Data)
	if _, err := w.Thaw(ctx, "cache", "drop", "l1"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.UpdateFunctionConfiguration(ctx, describe("hash", 1)); err != nil {
		t.Fatal(err)
	}
	census.note()
	var running sync.WaitGroup
	for name, payload := range map[string]string{"hash": `{"hash":"/usr"}`, "sleep": `{"sleep":2}`} {
		want := map[string]string{"hash": w.want, "sleep": `"slept"`}[name]
		running.Go(func() {
			if !attempt(ctx, t, w.client, name, payload, want) {
				t.Errorf("%s was cut off", name)
			}
		})
	}
	w.waitFor("both running", func() bool {
		text, err := w.Thaw(ctx, "logs", "sleep")
		return err == nil && strings.Count(text, "START") == 2
	})
	follower := w.follow("sleep")
	running.Go(func() {
		defer follower.Close()
		if text, err := io.ReadAll(follower); err != nil || strings.Count(string(text), "START") != 2 {
			t.Errorf("who follows a log read %v %s", err, text)
		}
	})
	for _, pid := range []int{w.pidOf("loader"), w.pidOf("holder"), w.PID()} {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	running.Wait()
	w.waitFor("the server's end", func() bool { return syscall.Kill(w.PID(), 0) != nil })
	if !strings.HasSuffix(w.Log.String(), "msg=stopped\n") {
		t.Error("the server did not end well")
	}
	if strings.Contains(w.Log.String(), "cut off") {
		t.Error("a reader that follows a log held up the end")
	}
	census.check()
	if err := w.Run(ctx); err != nil { // for the world's own end
		t.Fatal(err)
	}
}

// follow opens a function's log as thaw logs -f does.
func (w *world) follow(function string) io.ReadCloser {
	w.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(w.Data, "run", "admin.sock"))
	}}}
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://thaw/v1/tenants/default/functions/"+function+"/logs?follow=1", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.Body
}

// TestTooFewFiles starts a server that may not have as many files open as its
// bounds take, and can't change that.
func TestTooFewFiles(t *testing.T) {
	testkit.RequireRoot(t)
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prlimit", "--nofile=400", "setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource",
		filepath.Join(root, "bin", "thaw"), "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin-listen", "")
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "400 files may be open") {
		t.Errorf("it ended with %v and said:\n%s", err, out)
	}
}
