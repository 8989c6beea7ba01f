// SPDX-License-Identifier: Apache-2.0

// Package sandboxtest is the suite that every kind of sandbox must pass, and
// the comparison of two kinds. The suite runs a probe inside real sandboxes
// from a real EROFS mount; it needs root.
package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw.dev/thaw/invoke/sandbox"
)

// patience bounds every wait for something that must happen. It is long: a
// loaded machine must not fail a test.
const patience = 60 * time.Second

// harness starts sandboxes for a test.
type harness struct {
	launcher sandbox.Launcher
	root     string
	ids      atomic.Int64
}

// box is a started sandbox with what it printed.
type box struct {
	sandbox.Sandbox
	out, errs *buffer
}

// buffer collects output.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start starts the probe; change may change the spec. The sandbox is stopped
// when the test ends.
func (h *harness) start(t testing.TB, change func(*sandbox.Spec), args ...string) *box {
	t.Helper()
	b := &box{out: &buffer{}, errs: &buffer{}}
	spec := sandbox.Spec{ID: fmt.Sprintf("s-%d", h.ids.Add(1)), Root: h.root, Args: append([]string{"/probe"}, args...), Stdout: b.out, Stderr: b.errs}
	if change != nil {
		change(&spec)
	}
	s, err := h.launcher.Start(t.Context(), spec)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	b.Sandbox = s
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *box) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// wait waits for the end and returns it.
func (b *box) wait(t testing.TB) sandbox.Exit {
	t.Helper()
	select {
	case <-b.Done():
		return b.Exit()
	case <-time.After(patience):
		t.Fatalf("it does not end; output %q, errors %q", b.out, b.errs)
		return sandbox.Exit{}
	}
}

// answer waits for a probe that answers in JSON.
func (b *box) answer(t testing.TB, into any) {
	t.Helper()
	if exit := b.wait(t); exit.Code != 0 || exit.Err != nil {
		t.Fatalf("exit %+v; output %q, errors %q", exit, b.out, b.errs)
	}
	if err := json.Unmarshal([]byte(b.out.String()), into); err != nil {
		t.Fatalf("%v in %q", err, b.out)
	}
}

// says waits until the probe has printed text.
func (b *box) says(t testing.TB, text string) {
	t.Helper()
	until(t, "the probe says "+text, func() bool { return strings.Contains(b.out.String(), text) })
}

func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

// View is what the probe tells of itself.
type View struct {
	Status                                  map[string]string
	Mounts, FDs, Env, Args, Processes, Root []string
	Interfaces, Devices                     []string
	UIDMap, GIDMap, Dir, Hostname           string
	Cgroup, OOMScore, MemoryLimit           string
	Limits, Namespaces, Paths, Machine      map[string]string
	Sources                                 []string
	Umask, Pid                              int
	Priority                                []int
	Session                                 bool
}

// look starts a probe that looks, and returns what it saw.
func (h *harness) look(t testing.TB, change func(*sandbox.Spec), paths ...string) View {
	t.Helper()
	var v View
	h.start(t, change, append([]string{"look"}, paths...)...).answer(t, &v)
	return v
}

// namespace is a pid namespace that is held open: else the kernel would give its
// number to the next one, which a pool makes at once, and that one's processes
// would be taken for its own.
type namespace struct {
	*os.File
	name string
}

// processesOf counts the processes of the host in a pid namespace.
func processesOf(ns namespace) int {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	count := 0
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && target == ns.name {
			count++
		}
	}
	return count
}

// pidNamespace returns the pid namespace of a sandbox.
func (b *box) pidNamespace(t testing.TB) namespace {
	t.Helper()
	path := fmt.Sprintf("/proc/%d/ns/pid", b.Sandbox.(sandbox.Meter).Pid())
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	name, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return namespace{file, name}
}
