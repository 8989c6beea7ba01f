// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"thaw.dev/thaw/invoke/sandbox"
)

func testMemory(t *testing.T, h *harness) {
	small := func(s *sandbox.Spec) { s.MemoryBytes = 64 << 20 }
	if exit := h.start(t, small, "memory", "200").wait(t); exit.OOMKills == 0 || exit.Signal != syscall.SIGKILL {
		t.Errorf("200 MiB in 64: %+v", exit)
	}
	if exit := h.start(t, small, "memory", "30").wait(t); exit.OOMKills > 0 || exit.Code != 0 {
		t.Errorf("30 MiB in 64: %+v", exit)
	}
}

func testMemoryPeak(t *testing.T, h *harness) {
	b := h.start(t, func(s *sandbox.Spec) { s.MemoryBytes = 256 << 20 }, "memory", "100", "hold")
	b.says(t, "touched")
	for _, when := range []string{"running", "stopped"} {
		peak, err := b.Sandbox.(sandbox.Meter).MemoryPeak(t.Context())
		if err != nil || peak < 100<<20 || peak > 150<<20 {
			t.Errorf("%s: peak %d MiB, %v", when, peak>>20, err)
		}
		b.stop(t)
	}
}

func testProcesses(t *testing.T, h *harness) {
	var count int
	h.start(t, func(s *sandbox.Spec) { s.Pids = 30 }, "processes", "200").answer(t, &count)
	if count < 1 || count >= 30 {
		t.Errorf("%d processes under a limit of 30", count)
	}
}

func testFreeze(t *testing.T, h *harness) {
	b := h.start(t, nil, "tick")
	b.says(t, "1")
	for range 3 {
		for range 2 { // the second time does nothing
			if err := b.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Millisecond) // what is in the pipe arrives
		before := len(b.out.String())
		time.Sleep(50 * time.Millisecond)
		if after := len(b.out.String()); after != before {
			t.Errorf("it printed %d bytes while frozen", after-before)
		}
		for range 2 {
			if err := b.Thaw(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "it ticks again", func() bool { return len(b.out.String()) > before })
	}
	ended := h.start(t, nil, "exit", "0")
	ended.wait(t)
	if err := ended.Freeze(t.Context()); err != nil {
		t.Errorf("freeze of one that is done: %v", err)
	}
	if err := ended.Thaw(t.Context()); err != nil {
		t.Errorf("thaw of one that is done: %v", err)
	}
}

// testDrain: a frozen sandbox prints nothing more, so after Drain nothing more
// can arrive.
func testDrain(t *testing.T, h *harness) {
	b := h.start(t, nil, "tick")
	b.says(t, "1")
	drainer, ok := b.Sandbox.(sandbox.Drainer)
	if !ok {
		t.Fatal("the sandbox is no Drainer")
	}
	if err := b.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	drainer.Drain()
	before := b.out.String()
	time.Sleep(20 * time.Millisecond)
	if after := b.out.String(); after != before {
		t.Errorf("%q arrived after Drain", after[len(before):])
	}
	b.stop(t)
	drainer.Drain() // of one that is stopped: nothing
}

// ends stops a sandbox and checks that nothing of it runs.
func ends(t *testing.T, b *box) {
	t.Helper()
	ns := b.pidNamespace(t)
	b.stop(t)
	if n := processesOf(ns); n != 0 {
		t.Errorf("%d processes run after stop", n)
	}
	select {
	case <-b.Done():
	default:
		t.Error("stopped, but not done")
	}
}

func testStopFrozen(t *testing.T, h *harness) {
	b := h.start(t, nil, "tick")
	b.says(t, "1")
	if err := b.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	ends(t, b)
	if exit := b.Exit(); exit.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", exit)
	}
	if err := b.Freeze(t.Context()); err == nil {
		t.Error("a stopped sandbox can be frozen")
	}
}

func testStopBomb(t *testing.T, h *harness) {
	b := h.start(t, func(s *sandbox.Spec) { s.Pids = 200; s.MemoryBytes = 512 << 20 }, "bomb")
	b.says(t, "armed")
	time.Sleep(100 * time.Millisecond)
	ends(t, b)
}

func testStopResisting(t *testing.T, h *harness) {
	b := h.start(t, nil, "resist")
	b.says(t, "ready")
	ends(t, b)
}

func testStopTwice(t *testing.T, h *harness) {
	b := h.start(t, nil, "sleep")
	b.says(t, "ready")
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.Stop(gone) // may or may not be done at once, but must go on
	ends2 := make(chan error, 4)
	for range cap(ends2) {
		go func() { ends2 <- b.Stop(background(t)) }()
	}
	for range cap(ends2) {
		if err := <-ends2; err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

// testDescendants: the end of the command is the end of all, also of what has
// a session of its own and holds the output open.
func testDescendants(t *testing.T, h *harness) {
	b := h.start(t, nil, "daemon")
	ns := b.pidNamespace(t)
	if exit := b.wait(t); exit.Code != 7 {
		t.Errorf("exit %+v, errors %q", exit, b.errs)
	}
	if n := processesOf(ns); n != 0 {
		t.Errorf("%d descendants are left", n)
	}
	var zombies int
	h.start(t, nil, "orphans").answer(t, &zombies)
	if v := h.look(t, nil); v.Pid != 1 && zombies > 0 {
		t.Errorf("%d zombies", zombies)
	}
}

type stuckWriter struct{ release chan struct{} }

func (s stuckWriter) Write(p []byte) (int, error) { <-s.release; return len(p), nil }

func testStuckWriter(t *testing.T, h *harness) {
	s := stuckWriter{make(chan struct{})}
	defer close(s.release)
	b := h.start(t, func(spec *sandbox.Spec) { spec.Stdout = s }, "say", "x")
	b.wait(t)
}

func testBoost(t *testing.T, h *harness) {
	b := h.start(t, func(s *sandbox.Spec) { s.CPUs, s.BoostInit = 0.1, true }, "sleep")
	b.says(t, "ready")
	for range 2 {
		if err := b.Sandbox.(sandbox.Booster).EndBoost(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
