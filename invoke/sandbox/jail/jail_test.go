// SPDX-License-Identifier: Apache-2.0

package jail_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/jail"
	"thaw.dev/thaw/invoke/sandbox/sandboxtest"
)

var instances atomic.Int64

// open opens a launcher whose instance no other test has.
func open(t testing.TB, pool int) *jail.Launcher {
	t.Helper()
	testkit.RequireRoot(t)
	l, err := jail.New(t.Context(), jail.Config{
		Instance: fmt.Sprintf("t%d-%d", os.Getpid(), instances.Add(1)), Pool: pool, Init: sandboxtest.Init(t), Tmp: sandboxtest.Tmp(t),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPooled(t *testing.T) {
	sandboxtest.Run(t, func(t testing.TB) sandbox.Launcher {
		l := open(t, 4)
		if err := l.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		return l
	})
}

func TestFresh(t *testing.T) {
	sandboxtest.Run(t, func(t testing.TB) sandbox.Launcher { return open(t, 0) })
}

// TestLeak starts and stops 200 sandboxes.
func TestLeak(t *testing.T) {
	for _, pool := range []int{0, 3} {
		t.Run(fmt.Sprintf("pool of %d", pool), func(t *testing.T) {
			l := open(t, pool)
			sandboxtest.RunLeak(t, l, fmt.Sprintf("t%d-%d", os.Getpid(), instances.Load()), 100)
		})
	}
}

// inits are the first processes of this process's jails.
func inits(t *testing.T) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var pid, parent int
		var name, state string
		text, _ := os.ReadFile(file) // it may have ended
		if _, err := fmt.Sscan(string(text), &pid, &name, &state, &parent); err == nil && name == "(thaw-init)" && parent == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestPooledDiedOrStopped: a start does without waiting jails whose init was
// killed or stopped.
func TestPooledDiedOrStopped(t *testing.T) {
	l := open(t, 2)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		if err := l.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		waiting := inits(t)
		if len(waiting) != 2 {
			t.Fatalf("%d jails wait, want 2", len(waiting))
		}
		for _, pid := range waiting {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
		until := time.Now().Add(time.Minute)
		for _, pid := range waiting { // until the signal has come
			for state := "S"; state != "Z" && state != "T" && time.Now().Before(until); time.Sleep(time.Millisecond) {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				_, _ = fmt.Sscanf(string(text), "%d (thaw-init) %s", new(int), &state)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		s, err := l.Start(ctx, sandbox.Spec{ID: "s", Root: sandboxtest.Root(t), Args: []string{"/probe", "sleep"}, Stdout: io.Discard, Stderr: io.Discard})
		if err != nil {
			t.Fatalf("%v: %v", signal, err)
		}
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
