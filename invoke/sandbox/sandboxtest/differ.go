// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"thaw.dev/thaw/invoke/sandbox"
)

// Intended is a difference between two kinds that is meant to be.
type Intended struct {
	Fact   *regexp.Regexp // matches "name: value" of a fact that only one of the kinds shows
	Reason string
}

// Differ runs every check of the probe in a sandbox of each of two kinds and
// compares what they tell, fact by fact. A difference that no intended one
// matches fails the test, and so does an intended one that matches nothing.
func Differ(t *testing.T, one, other func(testing.TB) sandbox.Launcher, intended []Intended) {
	root := Root(t)
	var all [2]map[string]bool
	for i, open := range []func(testing.TB) sandbox.Launcher{one, other} {
		h := &harness{root: root, launcher: open(t)}
		all[i] = h.facts(t)
		if err := h.launcher.Close(background(t)); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	used := make([]bool, len(intended))
	for i, kind := range []string{"the first kind", "the second kind"} {
		for _, fact := range slices.Sorted(maps.Keys(all[i])) {
			if !all[1-i][fact] && !excused(fact, intended, used) {
				t.Errorf("only %s shows %s", kind, fact)
			}
		}
	}
	for i, u := range used {
		if !u {
			t.Errorf("no difference is %s (%s)", intended[i].Fact, intended[i].Reason)
		}
	}
	if len(all[0]) < 150 {
		t.Errorf("only %d facts", len(all[0]))
	}
}

func excused(fact string, intended []Intended, used []bool) bool {
	found := false
	for i, in := range intended {
		if in.Fact.MatchString(fact) {
			used[i], found = true, true
		}
	}
	return found
}

// volatile are numbers that differ from one sandbox to the next of one kind:
// namespaces' and ids on the host.
var volatile = regexp.MustCompile(`\[[0-9]+\]|\b1[89][0-9]{8}\b|\b20[0-9]{8}\b|\b21[0-9]{8}\b`)

// facts returns what the probe tells of a sandbox as "name: value".
func (h *harness) facts(t testing.TB) map[string]bool {
	facts := map[string]bool{}
	// Process ids depend on the threads of a Go program, which come and go.
	number := func(pid string) string {
		if pid != "1" {
			return "#"
		}
		return pid
	}
	add := func(name string, value any) {
		facts[name+": "+volatile.ReplaceAllString(fmt.Sprint(value), "#")] = true
	}
	limited := func(s *sandbox.Spec) {
		s.Env, s.Dir, s.MemoryBytes, s.Files, s.Pids = []string{"A=b"}, "/work", 256<<20, 200, 100
	}
	v := h.look(t, limited, "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/acpi", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap", "/dev/null", "/dev/tty", "/dev/shm", "/dev/pts", "/dev/ptmx", "/dev/console", "/dev/mqueue", "/dev/fuse",
		"/etc/hosts", "/etc/resolv.conf", "/tmp", "/proc/sys", "/probe", "/secret", "/of-12345", "/sys/fs/cgroup", "/proc/1/root",
		"/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/present")
	v.Status["NStgid"] = number(v.Status["NStgid"])
	for i, process := range v.Processes {
		pid, command, _ := strings.Cut(process, " ")
		v.Processes[i] = number(pid) + " " + command
	}
	for name, maps := range map[string]map[string]string{"status": v.Status, "limit": v.Limits, "namespace": v.Namespaces, "path": v.Paths, "machine": v.Machine} {
		for key, value := range maps {
			add(name+" "+key, value)
		}
	}
	for name, list := range map[string][]string{
		"mount": v.Mounts, "descriptor": v.FDs, "environment": v.Env, "argument": v.Args, "process": v.Processes, "root": v.Root,
		"interface": v.Interfaces, "device": v.Devices, "cgroup": strings.Split(v.Cgroup, " "),
	} {
		for _, value := range list {
			add(name, value)
		}
	}
	for name, value := range map[string]any{
		"uid map": v.UIDMap, "gid map": v.GIDMap, "directory": v.Dir, "host name": v.Hostname, "OOM score": v.OOMScore,
		"memory limit": v.MemoryLimit, "umask": v.Umask, "pid": number(strconv.Itoa(v.Pid)), "session": v.Session,
	} {
		add(name, value)
	}
	attempts := map[string]string{}
	h.start(t, limited, "try", "127.0.0.1:9001", "127.0.0.1:80", "169.254.169.254:80", "198.18.0.2:80").answer(t, &attempts)
	for name, outcome := range attempts {
		add("attempt "+name, outcome)
	}
	for _, path := range []string{"/new", "/work/new", "/writable/new", "/tmp/new", "/dev/new", "/proc/new", "/sys/new", "/etc/new", "/sys/fs/cgroup/new"} {
		var wrote []string
		h.start(t, limited, "write", path).answer(t, &wrote)
		add("write "+path, wrote)
	}
	return facts
}
