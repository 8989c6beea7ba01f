// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"thaw.dev/thaw/invoke/sandbox"
)

// testMachine: what programs count processors and memory by goes with the
// function's memory, wherever they look, and never tells of the host.
func testMachine(t *testing.T, h *harness) {
	for _, mb := range []int64{128, 4000} {
		want := strconv.Itoa(min(sandbox.ProcessorsFor(mb<<20), runtime.NumCPU()))
		m := h.look(t, func(s *sandbox.Spec) {
			s.MemoryBytes, s.CPUs, s.BoostInit = mb<<20, sandbox.CPUsFor(mb<<20), false
		}).Machine
		for _, key := range []string{"affinity", "NumCPU", "GOMAXPROCS", "cpuinfo"} {
			if m[key] != want {
				t.Errorf("%d MB: %s of %s, want %s", mb, key, m[key], want)
			}
		}
		if lines, _ := strconv.Atoi(want); m["stat"] != strconv.Itoa(lines+1) {
			t.Errorf("%d MB: /proc/stat has %s lines of processors, want %d", mb, m["stat"], lines+1)
		}
		if m["MemTotal"] != strconv.FormatInt(mb<<10, 10) {
			t.Errorf("%d MB: MemTotal %s", mb, m["MemTotal"])
		}
		if m["online"] == "" || m["online"] != m["possible"] {
			t.Errorf("online %q, possible %q", m["online"], m["possible"])
		}
		if !slices.Contains([]string{"-1ENOENT", "ENOENTmax 100000"}, m["quota"]) || !slices.Contains([]string{"1024ENOENT", "ENOENT100"}, m["shares"]) {
			t.Errorf("the quota is seen: %q, %q", m["quota"], m["shares"])
		}
		groups := strings.Fields(m["groups"])
		if slices.Contains(groups, "cgroup.controllers") {
			continue // cgroup v2: one folder has all
		}
		for _, controller := range []string{"memory", "cpu", "pids"} {
			if !slices.Contains(groups, controller) {
				t.Errorf("no %s in /sys/fs/cgroup: %v", controller, groups)
			}
		}
		if slices.Contains(groups, "cpuset") && (!slices.Contains(groups, "cpuacct") || m["set"] == "") {
			t.Errorf("the view is %v, cpuset %q", groups, m["set"])
		}
		if v1, err := controllersOfV1(); err != nil || v1["cpuset"] && !slices.Contains(groups, "cpuset") || v1["cpuacct"] && !slices.Contains(groups, "cpuacct") {
			t.Errorf("HotSpot finds no limit in %v (%v)", groups, err)
		}
	}
}

// controllersOfV1 are the controllers that the host has mounted on cgroup v1.
func controllersOfV1() (map[string]bool, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	found := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if _, right, ok := strings.Cut(line, " - cgroup "); ok {
			for option := range strings.SplitSeq(strings.TrimSpace(right[strings.LastIndexByte(strings.TrimSpace(right), ' ')+1:]), ",") {
				found[option] = true
			}
		}
	}
	return found, err
}

// testSources: what a mount is of tells no path of the host, in none of the
// columns of /proc/self/mountinfo. The test's own image is mounted from a file.
func testSources(t *testing.T, h *harness) {
	v := h.look(t, nil)
	if len(v.Sources) < 10 {
		t.Errorf("only %d mounts: %v", len(v.Sources), v.Sources)
	}
	for _, source := range v.Sources {
		fields := strings.SplitN(source, " ", 3) // point, source, options
		if fields[0] == "/" {
			continue
		}
		if strings.HasPrefix(fields[1], "/") || strings.Contains(fields[2], "dir=/") {
			t.Errorf("mount %s tells of the host", source)
		}
	}
}
