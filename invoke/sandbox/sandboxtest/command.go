// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
)

// background is a context that ends with patience, for work after the test.
func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func testOutput(t *testing.T, h *harness) {
	b := h.start(t, nil, "say", "a b", "ü")
	if exit := b.wait(t); exit != (sandbox.Exit{}) {
		t.Errorf("exit %+v, errors %q", exit, b.errs)
	}
	if got, want := b.out.String(), "out a b ü stdin 0 EOF\nreopened\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if got, want := b.errs.String(), "err a b ü\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	both := &buffer{}
	b = h.start(t, func(s *sandbox.Spec) { s.Stdout, s.Stderr = both, both }, "say", "x")
	b.wait(t)
	if got, want := both.String(), "out x stdin 0 EOF\nerr x\nreopened\n"; got != want {
		t.Errorf("both %q, want %q", got, want)
	}
	if exit := h.start(t, func(s *sandbox.Spec) { s.Stdout, s.Stderr = nil, nil }, "exit", "3").wait(t); exit.Code != 3 {
		t.Errorf("without writers: exit %+v", exit)
	}
}

func testExitStatus(t *testing.T, h *harness) {
	for _, code := range []string{"0", "1", "42", "127"} {
		exit := h.start(t, nil, "exit", code).wait(t)
		if exit.Err != nil || exit.Signal != 0 || exit.OOMKills > 0 || exit.Code != map[string]int{"0": 0, "1": 1, "42": 42, "127": 127}[code] {
			t.Errorf("exit %s: %+v", code, exit)
		}
	}
	for _, signal := range []struct {
		text string
		want syscall.Signal
	}{{"9", syscall.SIGKILL}, {"15", syscall.SIGTERM}} {
		b := h.start(t, nil, "signal", signal.text)
		if b.pidInside(h, t) == 1 {
			continue // the kernel keeps signals of its own from a process 1
		}
		if exit := b.wait(t); exit.Signal != signal.want || exit.Code != -1 || exit.OOMKills > 0 {
			t.Errorf("signal %s: %+v", signal.text, exit)
		}
	}
}

// pidInside tells whether commands are process 1 of this kind of sandbox.
func (b *box) pidInside(h *harness, t testing.TB) int { return h.look(t, nil).Pid }

func testFaults(t *testing.T, h *harness) {
	for _, c := range []struct {
		name, command, dir string
		want               sandbox.Fault
	}{
		{"missing", "/nowhere", "", sandbox.FaultEntrypointMissing},
		{"missing below a file", "/open/x", "", sandbox.FaultEntrypointMissing},
		{"missing on PATH", "nowhere", "", sandbox.FaultEntrypointMissing},
		{"missing relative", "./nowhere", "/work", sandbox.FaultEntrypointMissing},
		{"missing interpreter", "/no-interpreter", "", sandbox.FaultEntrypointMissing},
		{"no permission", "/not-executable", "", sandbox.FaultEntrypointNotExecutable},
		{"another's", "/not-ours", "", sandbox.FaultEntrypointNotExecutable},
		{"directory", "/directory", "", sandbox.FaultEntrypointNotExecutable},
		{"no format", "/no-format", "", sandbox.FaultEntrypointNotExecutable},
		{"device", "/image-device", "", sandbox.FaultEntrypointNotExecutable},
		{"no such directory", "/probe", "/nowhere", sandbox.FaultWorkingDir},
		{"directory is a file", "/probe", "/open", sandbox.FaultWorkingDir},
		{"closed directory", "/probe", "/closed", sandbox.FaultWorkingDir},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := h.start(t, func(s *sandbox.Spec) { s.Args[0], s.Dir = c.command, c.dir }, "exit", "0")
			exit := b.wait(t)
			e, ok := errors.AsType[*sandbox.ExecError](exit.Err)
			if !ok || e.Fault != c.want || exit.Code != -1 || thaw.KindOf(exit.Err) != thaw.Invalid {
				t.Fatalf("exit %+v, want fault %v", exit, c.want)
			}
			if want := map[bool]string{true: c.dir, false: c.command}[c.want == sandbox.FaultWorkingDir]; e.Path != want {
				t.Errorf("path %q, want %q", e.Path, want)
			}
		})
	}
}

func testCommandOnPath(t *testing.T, h *harness) {
	for _, c := range []struct{ command, dir, path string }{
		{"on-path", "", "PATH=/nowhere:/open:/bin"}, {"/link", "", ""}, {"./probe", "/", ""}, {"../probe", "/work", ""}, {"on-path", "/work", ""},
	} {
		b := h.start(t, func(s *sandbox.Spec) {
			s.Args[0], s.Dir = c.command, c.dir
			if c.path != "" {
				s.Env = []string{"A=b", c.path}
			}
		}, "exit", "5")
		if exit := b.wait(t); exit.Code != 5 {
			t.Errorf("%+v: %+v", c, exit)
		}
	}
}

func testBadSpecs(t *testing.T, h *harness) {
	good := sandbox.Spec{ID: "bad", Root: h.root, Args: []string{"/probe", "exit", "0"}}
	for name, change := range map[string]func(*sandbox.Spec){
		"no id": func(s *sandbox.Spec) { s.ID = "" }, "id with a slash": func(s *sandbox.Spec) { s.ID = "a/../b" },
		"no command": func(s *sandbox.Spec) { s.Args = nil }, "empty command": func(s *sandbox.Spec) { s.Args = []string{""} },
		"relative root": func(s *sandbox.Spec) { s.Root = "root" }, "NUL": func(s *sandbox.Spec) { s.Env = []string{"A=\x00"} },
		"negative": func(s *sandbox.Spec) { s.MemoryBytes = -1 },
	} {
		spec := good
		change(&spec)
		if _, err := h.launcher.Start(t.Context(), spec); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	spec := good
	spec.Root = "/nowhere"
	if _, err := h.launcher.Start(t.Context(), spec); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("no such root: %v", err)
	}
	spec = good
	spec.Root = t.TempDir() // a root without the directories that a root has
	if _, err := h.launcher.Start(t.Context(), spec); err == nil {
		t.Errorf("an empty root was started")
	}
	spec = good
	spec.Env = []string{"A=" + strings.Repeat("x", 200<<10)}
	if s, err := h.launcher.Start(t.Context(), spec); err == nil {
		<-s.Done()
		if s.Exit().Err == nil {
			t.Errorf("an environment that no kernel takes was started")
		}
		_ = s.Stop(t.Context())
	}
}

func testTogether(t *testing.T, h *harness) {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			b := h.start(t, nil, "exit", "9")
			if exit := b.wait(t); exit.Code != 9 {
				t.Errorf("exit %+v", exit)
			}
			b.stop(t)
		})
	}
	all.Wait()
}

func testClose(t *testing.T, open func(testing.TB) sandbox.Launcher) {
	h := &harness{root: Root(t), launcher: open(t)}
	b := h.start(t, nil, "sleep")
	b.says(t, "ready")
	ns := b.pidNamespace(t)
	if err := h.launcher.Close(background(t)); err != nil {
		t.Fatal(err)
	}
	if n := processesOf(ns); n != 0 {
		t.Errorf("%d processes outlive the launcher", n)
	}
	if exit := b.wait(t); exit.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", exit)
	}
	if _, err := h.launcher.Start(t.Context(), sandbox.Spec{ID: "late", Root: h.root, Args: []string{"/probe"}}); thaw.KindOf(err) != thaw.Unavailable {
		t.Errorf("start after close: %v", err)
	}
	if err := h.launcher.Close(background(t)); err != nil {
		t.Errorf("second close: %v", err)
	}
}
