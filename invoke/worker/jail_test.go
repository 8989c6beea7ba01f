// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/jail"
	"thaw.dev/thaw/invoke/sandbox/sandboxtest"
)

// jailRoot is the smallest image of the Go function: a binary and the mount
// points.
func jailRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"etc/hosts", "etc/resolv.conf"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile(goFunction(t).Entrypoint[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "handler"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := root; dir != "/"; dir = filepath.Dir(dir) {
		if strings.HasPrefix(filepath.Base(dir), "Test") || dir == root {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

// jailWorld is a world whose sandboxes are real jails.
func jailWorld(t testing.TB, change func(*Config)) (*world, Function) {
	t.Helper()
	testkit.RequireRoot(t)
	l, err := jail.New(t.Context(), jail.Config{Instance: "workertest", Pool: 2, Tmp: sandboxtest.Tmp(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := l.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	root := jailRoot(t)
	w := newWorld(t, func(c *Config) {
		c.Launcher = l
		c.Rootfs = rootAt(root)
		if change != nil {
			change(c)
		}
	})
	f := goFunction(t)
	f.Entrypoint = []string{"/handler"}
	return w, f
}

type rootAt string

func (r rootAt) Attach(context.Context, Start) (Root, error) {
	return Root{Dir: string(r)}, nil
}

var _ sandbox.Launcher = (*jail.Launcher)(nil)

// TestJail runs the ends of an invocation in real jails.
func TestJail(t *testing.T) {
	w, f := jailWorld(t, func(c *Config) { c.FreezeAfter = time.Millisecond })
	res, first := w.do(f, ask{Do: "print", Text: "hello"})
	if !res.ColdStart || res.FunctionError != "" {
		t.Fatalf("%s", show(res))
	}
	for _, want := range []string{"init\n", "START RequestId: " + res.RequestID, "hello\n", "without an end\n", "REPORT RequestId: " + res.RequestID} {
		if !strings.Contains(string(res.LogTail), want) {
			t.Fatalf("no %q: %s", want, show(res))
		}
	}
	for range 5 { // what it prints stands before END, however late the pipe is read
		res, _ := w.do(f, ask{Do: "print", Text: "hello"})
		if log := string(res.LogTail); strings.Index(log, "without an end\n") > strings.Index(log, "END RequestId: ") ||
			!strings.Contains(log, "without an end\n") {
			t.Fatalf("%s", show(res))
		}
	}
	for range 20 { // frozen between, or being frozen
		res, again := w.do(f, ask{})
		if res.ColdStart || again.Pid != first.Pid {
			t.Fatalf("%s", show(res))
		}
		time.Sleep(3 * time.Millisecond)
	}

	f.Timeout = 400 * time.Millisecond
	if res, out := w.do(f, ask{Do: "hang"}); out.ErrorType != "Sandbox.Timedout" {
		t.Fatalf("%s", show(res))
	}
	f.Timeout = 20 * time.Second
	if res, out := w.do(f, ask{Do: "exit", Code: 3}); out.ErrorType != "Runtime.ExitError" || !res.ColdStart {
		t.Fatalf("%s", show(res))
	}
	res, out := w.do(f, ask{Do: "memory"})
	if out.ErrorType != "Runtime.OutOfMemory" || !strings.HasSuffix(out.ErrorMessage, "Error: Runtime exited with error: signal: killed") {
		t.Fatalf("%s", show(res))
	}
	jailKilledChild(t, w, f)
	f.Revision, f.WorkingDir = "2", "/none"
	if res, out := w.do(f, ask{}); out.ErrorType != "Runtime.InvalidWorkingDir" {
		t.Fatalf("%s", show(res))
	}
	f.Revision, f.WorkingDir, f.Entrypoint = "3", "", []string{"/none"}
	if res, out := w.do(f, ask{}); out.ErrorType != "Runtime.InvalidEntrypoint" {
		t.Fatalf("%s", show(res))
	}
}

// jailKilledChild: a process that is killed for want of memory is an event of
// its own invocation.
func jailKilledChild(t *testing.T, w *world, f Function) {
	res, out := w.do(f, ask{Do: "child memory"})
	if res.FunctionError != "" || out.Text != "signal: killed" || !strings.Contains(string(res.LogTail), "[thaw] the kernel killed 1 of the function's processes") {
		t.Fatalf("%s", show(res))
	}
	if res, out := w.do(f, ask{Do: "exit", Code: 3}); out.ErrorType != "Runtime.ExitError" || res.ColdStart {
		t.Fatalf("%s", show(res))
	}
	// One that takes the runtime with it is not: a shell that ends as its child did.
	if res, out := w.do(f, ask{Do: "child memory", Code: 137}); out.ErrorType != "Runtime.OutOfMemory" {
		t.Fatalf("%s", show(res))
	}
}

// BenchmarkJail is a cold start and a warm invocation in real jails, the freezer
// included: each invocation meets a frozen sandbox.
func BenchmarkJail(b *testing.B) {
	b.Run("cold", func(b *testing.B) {
		w, f := jailWorld(b, nil)
		f.MemoryMB = 1769
		n := 0
		measure(b, func() {
			n++
			f.Revision = itoa(n)
			if res, err := w.Invoke(b.Context(), f, Request{}); err != nil || !res.ColdStart {
				b.Fatal(err)
			}
			w.Retire(f.Tenant, f.Name)
		})
	})
	for name, after := range map[string]time.Duration{"warm": time.Minute, "frozen": 0} {
		b.Run(name, func(b *testing.B) {
			w, f := jailWorld(b, func(c *Config) { c.FreezeAfter = after })
			f.MemoryMB = 1769 // one CPU: less is the quota's time, not ours
			payload, _ := json.Marshal(ask{Text: "hello"})
			w.do(f, ask{})
			between := func() {}
			if after == 0 {
				between = func() { time.Sleep(3 * time.Millisecond) } // until it is frozen
			}
			measureWith(b, between, func() {
				if _, err := w.Invoke(b.Context(), f, Request{Payload: payload}); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
