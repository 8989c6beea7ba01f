// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/invoke/sandbox"
)

// holdings counts what starting and stopping must not add to.
type holdings struct {
	descriptors, mounts, children, groups, goroutines int
}

// RunLeak starts and stops sandboxes, rounds times in ways that end
// differently, and checks that the host holds no more than before. instance
// is the launcher's, to count its control groups.
func RunLeak(t *testing.T, launcher sandbox.Launcher, instance string, rounds int) {
	h := &harness{launcher: launcher, root: Root(t)}
	t.Cleanup(func() {
		if err := launcher.Close(background(t)); err != nil {
			t.Errorf("close: %v", err)
		}
		if left := groups(instance); left != 0 {
			t.Errorf("%d control groups are left after close", left)
		}
	})
	ways := []struct {
		args  []string
		lives bool // until it is stopped: before that its namespace can be looked at
		then  func(*box)
	}{
		{[]string{"exit", "0"}, false, func(b *box) { b.wait(t) }},
		{[]string{"tick"}, true, func(*box) {}},
		{[]string{"tick"}, true, func(b *box) { _ = b.Freeze(t.Context()) }},
		{[]string{"daemon"}, false, func(b *box) { b.says(t, "daemon") }},
	}
	cycle := func(i int) {
		way := ways[i%len(ways)]
		b := h.start(t, nil, way.args...)
		var ns namespace
		if way.lives {
			ns = b.pidNamespace(t)
			defer ns.Close()
		}
		way.then(b)
		b.stop(t)
		if way.lives {
			if n := processesOf(ns); n != 0 {
				t.Errorf("round %d: %d processes are left", i, n)
			}
		}
	}
	for i := range 8 { // what is made once is made now
		cycle(i)
	}
	settle(t, launcher)
	before := count(t, instance)
	for i := range rounds {
		cycle(i)
	}
	settle(t, launcher)
	var now holdings
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if now = count(t, instance); now.within(before) {
			return
		}
	}
	t.Errorf("before there were %+v, %d sandboxes later %+v", before, rounds, now)
}

// settle waits until a launcher with a pool has filled it: a sandbox that is
// being prepared holds less than one that waits.
func settle(t *testing.T, launcher sandbox.Launcher) {
	t.Helper()
	pooled, ok := launcher.(interface{ Ready(context.Context) error })
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := pooled.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

func (h holdings) within(most holdings) bool {
	return h.descriptors <= most.descriptors && h.mounts <= most.mounts && h.children <= most.children &&
		h.groups <= most.groups && h.goroutines <= most.goroutines
}

func count(t *testing.T, instance string) holdings {
	var h holdings
	fds, _ := os.ReadDir("/proc/self/fd")
	h.descriptors, h.mounts = len(fds), mounts(t)
	h.goroutines, h.groups = runtime.NumGoroutine(), groups(instance)
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		h.children += len(strings.Fields(string(text)))
	}
	return h
}

// mounts counts the host's mounts, but for those in folders of other tests,
// which run meanwhile.
func mounts(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	n := 0
	for line := range strings.Lines(string(text)) {
		at := strings.Fields(line)[4]
		if !strings.HasPrefix(at, os.TempDir()+"/") || strings.HasPrefix(at, filepath.Join(os.TempDir(), name)) {
			n++
		}
	}
	return n
}

// groups counts the control groups of an instance, in every hierarchy.
func groups(instance string) int {
	n := 0
	for _, pattern := range []string{"/sys/fs/cgroup/thaw/", "/sys/fs/cgroup/*/thaw/"} {
		all, _ := filepath.Glob(pattern + instance + "/*")
		for _, path := range all {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				n++
			}
		}
	}
	return n
}
