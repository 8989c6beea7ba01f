// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/testkit"
)

func instance(t *testing.T) string {
	return "test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(filepath.Base(t.Name()))
}

// parents opens every kind of parent that this host can have: what detect
// chooses and, on a hybrid host, the unified hierarchy without controllers,
// whose freezing, killing and removing work all the same.
func parents(t *testing.T) map[string]*Parent {
	testkit.RequireRoot(t)
	out := map[string]*Parent{}
	p, err := Open(t.Context(), instance(t))
	if err != nil {
		t.Fatal(err)
	}
	out[p.Kind()] = p
	mounts, err := findMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.v2 && p.Kind() == "v1" {
			if out["v2-core"], err = open(t.Context(), &v2{root: m.dir}, "v2", instance(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		for _, p := range out {
			if err := p.Close(context.Background()); err != nil {
				t.Error(err)
			}
			for _, dir := range p.h.dirs(p.rel) {
				if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left behind", dir)
				}
			}
		}
	})
	return out
}

// counter starts a process that counts in a file as long as it runs.
func counter(t *testing.T, g *Group) (read func() int) {
	path := filepath.Join(t.TempDir(), "count")
	cmd := exec.Command("/bin/sh", "-c", `n=0; while :; do n=$((n+1)); echo $n >"$0"; done`, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return func() int {
		text, _ := os.ReadFile(path)
		n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return n
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

// TestInstancesLeaveEachOtherAlone: an instance that begins and ends takes
// nothing of another one away, not even groups in which no process is yet.
func TestInstancesLeaveEachOtherAlone(t *testing.T) {
	for name, p := range parents(t) {
		t.Run(name, func(t *testing.T) {
			g, err := p.Make("waiting")
			if err != nil {
				t.Fatal(err)
			}
			var others sync.WaitGroup
			for i := range 4 {
				others.Go(func() {
					for range 10 {
						other, err := open(t.Context(), p.h, p.kind, fmt.Sprint(instance(t), "-other-", i))
						if err != nil {
							t.Error(err)
							return
						}
						if err := other.Close(t.Context()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			others.Wait()
			for _, rel := range []string{g.rel, p.keeper()} {
				for _, dir := range p.h.dirs(rel) {
					if _, err := os.Stat(dir); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

func TestFreezeStopsAndThawGoesOn(t *testing.T) {
	for name, p := range parents(t) {
		t.Run(name, func(t *testing.T) {
			g, err := p.Make("a")
			if err != nil {
				t.Fatal(err)
			}
			count := counter(t, g)
			waitFor(t, "first count", func() bool { return count() > 0 })
			for range 3 {
				if err := g.Freeze(t.Context()); err != nil {
					t.Fatal(err)
				}
				before := count()
				time.Sleep(30 * time.Millisecond)
				if after := count(); after != before && before != 0 {
					t.Fatalf("counted from %d to %d while frozen", before, after)
				}
				if err := g.Thaw(); err != nil {
					t.Fatal(err)
				}
				waitFor(t, "count after thaw", func() bool { return count() > before })
			}
		})
	}
}

func TestKillMeetsForksAndFrozen(t *testing.T) {
	for name, p := range parents(t) {
		t.Run(name, func(t *testing.T) {
			g, err := p.Make("a")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/bin/sh", "-c", `while :; do sleep 100 & sleep 0.001; done`)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if err := g.Add(cmd.Process.Pid); err != nil {
				t.Fatal(err)
			}
			waited := make(chan struct{})
			go func() { _ = cmd.Wait(); close(waited) }()
			waitFor(t, "children", func() bool { pids, _ := g.Procs(); return len(pids) > 5 })
			if err := g.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := g.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-waited
			if pids, err := g.Procs(); err != nil || len(pids) > 0 {
				t.Fatalf("left: %v %v", pids, err)
			}
			if err := g.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := g.Remove(t.Context()); err != nil {
				t.Fatalf("second remove: %v", err)
			}
		})
	}
}

func TestOpenClearsWhatAnEarlierProcessLeft(t *testing.T) {
	testkit.RequireRoot(t)
	p, err := Open(t.Context(), instance(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	g, err := p.Make("left")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(waited) }()
	if err := g.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), instance(t)); err != nil {
		t.Fatal(err)
	}
	<-waited // killed, though it was frozen
	for _, dir := range g.h.dirs(g.rel) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left", dir)
		}
	}
}

// TestV2Files checks what is written where against a plain directory: this
// needs no host whose controllers are on v2.
func TestV2Files(t *testing.T) {
	root := t.TempDir()
	h := &v2{root: root, controllers: []string{"cpu", "memory", "pids"}}
	group := filepath.Join(root, "thaw/i/a")
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, filepath.Dir(filepath.Dir(group)), filepath.Dir(group)} {
		touch(t, dir, "cgroup.subtree_control", "")
	}
	for file, text := range map[string]string{
		"memory.max": "max", "memory.swap.max": "max", "pids.max": "max", "cpu.weight": "100", "cpu.max": "max 100000",
		"cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 1\n", "memory.current": "7000\n", "memory.peak": "9000\n",
		"memory.stat": "anon 5000\nactive_file 100\ninactive_file 200\n", "memory.events": "oom 1\noom_kill 2\n",
	} {
		touch(t, group, file, text)
	}
	if err := h.make("thaw/i/a"); err != nil {
		t.Fatal(err)
	}
	if err := h.limit("thaw/i/a", Limits{MemoryBytes: 128 << 20, CPUs: 0.5, Pids: 10}); err != nil {
		t.Fatal(err)
	}
	if err := h.freeze("thaw/i/a", true); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"memory.max": "134217728", "memory.swap.max": "0", "pids.max": "10", "cpu.weight": "50", "cpu.max": "10000 20000", "cgroup.freeze": "1",
	} {
		if got, _ := os.ReadFile(filepath.Join(group, file)); string(got) != want {
			t.Errorf("%s holds %q, want %q", file, got, want)
		}
	}
	if got, err := h.memory("thaw/i/a"); err != nil || got != (Memory{Current: 7000, Cache: 300, Peak: 9000, OOMKills: 2}) {
		t.Errorf("memory %+v %v", got, err)
	}
	if ok, err := h.frozen("thaw/i/a"); err != nil || !ok {
		t.Errorf("frozen %v %v", ok, err)
	}
}

// TestOOMKillsAreCounted: anew at each call, in either hierarchy's file, until
// the group is gone.
func TestOOMKillsAreCounted(t *testing.T) {
	for file, h := range map[string]func(string) hierarchy{
		"memory.events":      func(dir string) hierarchy { return &v2{root: dir} },
		"memory.oom_control": func(dir string) hierarchy { return &v1{mem: dir, cpu: dir, pids: dir, freezer: dir, devices: dir} },
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "a"), 0o755); err != nil {
			t.Fatal(err)
		}
		m := NewMeter(&Group{h: h(root), rel: "a"}, 0)
		if n := m.OOMKills(); n != 0 {
			t.Errorf("%s: %d before there is a file", file, n)
		}
		touch(t, filepath.Join(root, "a"), file, "oom_kill_disable 0\nunder_oom 0\noom 9\noom_kill 2\n")
		if n := m.OOMKills(); n != 2 {
			t.Errorf("%s: %d, want 2", file, n)
		}
		touch(t, filepath.Join(root, "a"), file, "oom_kill 11\n")
		for range 2 {
			if n := m.OOMKills(); n != 11 {
				t.Errorf("%s: %d, want 11", file, n)
			}
			m.Close()
		}
	}
}

// TestWritesHideNoMoreThanTheirDisk: a process that has written a disk over and
// over still tells of a peak of its memory.
func TestWritesHideNoMoreThanTheirDisk(t *testing.T) {
	const peak, disk, over = int64(64 << 30), int64(1 << 20), 8
	root := t.TempDir()
	group := filepath.Join(root, "a")
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for range over {
		touch(t, root, "file", strings.Repeat("x", int(disk)))
	}
	if wrote, ok := written(os.Getpid()); !ok || wrote < over*disk {
		t.Skipf("%s is in memory: %d bytes written", root, wrote)
	}
	for file, text := range map[string]string{
		"cgroup.procs": strconv.Itoa(os.Getpid()), "memory.current": "7000", "memory.peak": strconv.FormatInt(peak, 10),
		"memory.stat": "file 0\n", "memory.events": "oom_kill 0\n",
	} {
		touch(t, group, file, text)
	}
	got, err := NewMeter(&Group{h: &v2{root: root}, rel: "a"}, disk).Peak()
	if err != nil || got != peak-disk {
		t.Errorf("%d, %v, want %d", got, err, peak-disk)
	}
}

func touch(t *testing.T, dir, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDetect(t *testing.T) {
	unified := t.TempDir()
	touch(t, unified, "cgroup.controllers", "cpuset cpu io memory pids\n")
	bare := t.TempDir()
	touch(t, bare, "cgroup.controllers", "hugetlb\n")
	v1lines := `31 30 0:28 / /c/cpu\040s rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 30 0:31 / /c/memory rw - cgroup cgroup rw,memory
35 30 0:32 / /c/devices rw - cgroup cgroup rw,devices
36 30 0:33 / /c/freezer rw shared:3 - cgroup cgroup rw,freezer
38 30 0:35 / /c/pids rw - cgroup cgroup rw,pids
`
	line2 := func(dir string) string { return "40 30 0:37 / " + dir + " rw - cgroup2 cgroup2 rw\n" }
	for name, c := range map[string]struct{ info, kind string }{
		"v2":            {line2(unified), "v2"},
		"v1":            {v1lines, "v1"},
		"hybrid":        {v1lines + line2(bare), "v1"},
		"nothing":       {line2(bare), ""},
		"v1 incomplete": {v1lines[:strings.Index(v1lines, "38 30")], ""},
	} {
		h, kind, err := detect(parseMounts([]byte(c.info)))
		if kind != c.kind {
			t.Errorf("%s: detected %q, want %q", name, kind, c.kind)
		}
		if c.kind == "" && thaw.KindOf(err) != thaw.Unavailable {
			t.Errorf("%s: error %v", name, err)
		}
		if v, ok := h.(*v2); ok && !(slices.Contains(v.controllers, "cpuset") && slices.Contains(v.controllers, "io")) {
			t.Errorf("%s: controllers %v", name, v.controllers)
		}
		if v, ok := h.(*v1); ok && (v.cpu != "/c/cpu s" || v.cpuacct != v.cpu || v.cpuset != "") {
			t.Errorf("%s: cpu at %q, cpuacct at %q, cpuset at %q", name, v.cpu, v.cpuacct, v.cpuset)
		}
	}
}

// TestViews: what a sandbox sees holds the controllers without which HotSpot
// knows no limit, and not the quota, by which runtimes would count one
// processor.
func TestViews(t *testing.T) {
	quota := []string{"cpu.cfs_quota_us=-1", "cpu.shares=1024"}
	for _, c := range []struct {
		h    hierarchy
		want []View
	}{
		{&v1{mem: "/c/memory", cpu: "/c/cpu", pids: "/c/pids", cpuset: "/c/cpuset", cpuacct: "/c/cpuacct", options: map[string]string{"/c/cpu": "cpu"}}, []View{
			{Name: "memory", Type: "cgroup"}, {Name: "cpu", Type: "cgroup", Options: "cpu", Masks: quota}, {Name: "cpuacct", Type: "cgroup"},
			{Name: "cpuset", Type: "cgroup"}, {Name: "pids", Type: "cgroup"}}},
		{&v1{mem: "/c/memory", cpu: "/c/cpu,cpuacct", pids: "/c/pids", cpuacct: "/c/cpu,cpuacct"}, []View{
			{Name: "memory", Type: "cgroup"}, {Name: "cpu,cpuacct", Type: "cgroup", Masks: quota}, {Name: "pids", Type: "cgroup"}}},
		{&v2{root: "/c"}, []View{{Type: "cgroup2", Masks: []string{"cpu.max=max 100000", "cpu.weight=100"}}}},
	} {
		p := &Parent{h: c.h}
		if got := p.Views(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("views %+v, want %+v", got, c.want)
		}
		for _, v := range c.want {
			if p.Dirs("a")[v.Name] == "" {
				t.Errorf("no directory of %q", v.Name)
			}
		}
	}
}

// TestSetIsInherited checks against plain directories: the kernel refuses
// processes in a group of cpuset that has no processors.
func TestSetIsInherited(t *testing.T) {
	root := t.TempDir()
	touch(t, root, "cpuset.cpus", "0-3,8\n")
	touch(t, root, "cpuset.mems", "0\n")
	group := filepath.Join(root, "thaw/i/a")
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := group; dir != root; dir = filepath.Dir(dir) {
		touch(t, dir, "cpuset.cpus", "\n")
		touch(t, dir, "cpuset.mems", "\n")
	}
	touch(t, filepath.Join(root, "thaw"), "cpuset.cpus", "2\n") // somebody else's choice
	h := &v1{cpuset: root}
	if err := h.inheritSet("thaw/i/a"); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpuset.cpus": "2", "cpuset.mems": "0"} {
		if got, _ := os.ReadFile(filepath.Join(group, file)); string(got) != want {
			t.Errorf("%s holds %q, want %q", file, got, want)
		}
	}
}

// TestKeepsPids: sandboxes together can't have all process ids of the host.
func TestKeepsPids(t *testing.T) {
	p := parents(t)
	for kind, parent := range p {
		if kind == "v2-core" {
			continue // without controllers
		}
		dir := ""
		for _, d := range parent.h.dirs(folder) {
			if _, err := os.Stat(filepath.Join(d, "pids.max")); err == nil {
				dir = d
			}
		}
		most, err := mostPids("/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max")
		if err != nil {
			t.Fatal(err)
		}
		if bound, err := readInt(filepath.Join(dir, "pids.max")); err != nil || bound <= 0 || bound > most*3/4+1 {
			t.Errorf("%s: sandboxes may have %d of %d process ids, %v", kind, bound, most, err)
		}
	}
}

func TestBootedWith(t *testing.T) {
	const line = "root=/dev/vda cgroup.memory=nokmem,nosocket quiet"
	for option, want := range map[string]bool{"nokmem": true, "nosocket": true, "nobpf": false, "no": false} {
		if bootedWith(line, option) != want {
			t.Errorf("%s: %v", option, !want)
		}
	}
	if bootedWith("quiet", "nosocket") {
		t.Error("nothing is booted with nosocket")
	}
}
