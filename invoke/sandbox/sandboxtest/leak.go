package sandboxtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

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
	ways := []func(*box){
		func(b *box) { b.wait(t) },
		func(*box) {},
		func(b *box) { _ = b.Freeze(t.Context()) },
		func(b *box) { b.says(t, "daemon") },
	}
	verbs := [][]string{{"exit", "0"}, {"tick"}, {"tick"}, {"daemon"}}
	cycle := func(i int) {
		b := h.start(t, func(s *sandbox.Spec) { s.WritableRoot = i%3 == 0 }, verbs[i%4]...)
		ns := b.pidNamespace(t)
		ways[i%4](b)
		b.stop(t)
		if n := processesOf(ns); n != 0 {
			t.Errorf("round %d: %d processes are left", i, n)
		}
	}
	for i := range 8 { // what is made once is made now
		cycle(i)
	}
	before := count(instance)
	for i := range rounds {
		cycle(i)
	}
	until(t, fmt.Sprintf("holdings return to %+v, now %+v", before, count(instance)), func() bool {
		now := count(instance)
		return now.descriptors <= before.descriptors && now.mounts <= before.mounts && now.children <= before.children &&
			now.groups <= before.groups && now.goroutines <= before.goroutines
	})
}

func count(instance string) holdings {
	var h holdings
	fds, _ := os.ReadDir("/proc/self/fd")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	h.descriptors, h.mounts = len(fds), bytes.Count(mounts, []byte("\n"))
	h.goroutines, h.groups = runtime.NumGoroutine(), groups(instance)
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		h.children += len(strings.Fields(string(text)))
	}
	return h
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
