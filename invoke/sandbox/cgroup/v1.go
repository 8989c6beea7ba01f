// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// v1 is seven hierarchies, some of which may be mounted as one.
type v1 struct {
	mem, cpu, pids, freezer, devices string            // mount points
	cpuset, cpuacct                  string            // likewise, "" where the host has none
	options                          map[string]string // by mount point: the controllers, for a mount of the same
}

// deviceRules lets a sandbox use the devices that its /dev shows and make
// none: null, zero, full, random, urandom, tty.
var deviceRules = [...]string{"c 1:3 rw", "c 1:5 rw", "c 1:7 rw", "c 1:8 rw", "c 1:9 rw", "c 5:0 rw"}

func (h *v1) dirs(rel string) []string {
	mounts := []string{h.mem, h.cpu, h.pids, h.freezer, h.devices, h.cpuset, h.cpuacct}
	slices.Sort(mounts)
	mounts = slices.DeleteFunc(slices.Compact(mounts), func(m string) bool { return m == "" })
	for i, m := range mounts {
		mounts[i] = filepath.Join(m, rel)
	}
	return mounts
}

func (h *v1) make(rel string) error {
	for _, dir := range h.dirs(rel) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return h.inheritSet(rel)
}

// inheritSet gives a new group, and those above it that lack them, their
// parent's processors and memory nodes: a group of the cpuset controller begins
// with none, and takes no process then.
func (h *v1) inheritSet(rel string) error {
	if h.cpuset == "" {
		return nil
	}
	dir := h.cpuset
	for element := range strings.SplitSeq(rel, "/") {
		parent := dir
		dir = filepath.Join(dir, element)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			own, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(own)) != "" {
				continue
			}
			above, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil {
				return err
			}
			if err := write(dir, file, strings.TrimSpace(string(above))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *v1) limit(rel string, l Limits) error {
	var errs []error
	set := func(mount, file, value string) {
		errs = append(errs, write(filepath.Join(mount, rel), file, value))
	}
	if l.MemoryBytes > 0 {
		bytes := strconv.FormatInt(l.MemoryBytes, 10)
		set(h.mem, "memory.limit_in_bytes", bytes)
		// Kernels without swap accounting have no such file.
		const memsw = "memory.memsw.limit_in_bytes"
		if _, err := os.Stat(filepath.Join(h.mem, rel, memsw)); err == nil {
			set(h.mem, memsw, bytes)
		}
	}
	if sockets := l.MemoryBytes / socketsPart; sockets > leastSockets {
		errs = append(errs, h.limitSockets(rel, sockets))
	}
	if l.Pids > 0 {
		set(h.pids, "pids.max", strconv.Itoa(l.Pids))
	}
	if shares := max(l.Shares, l.CPUs); shares > 0 {
		set(h.cpu, "cpu.shares", strconv.Itoa(max(2, int(shares*1024))))
	}
	if l.CPUs > 0 {
		set(h.cpu, "cpu.cfs_period_us", strconv.Itoa(PeriodMicros))
		set(h.cpu, "cpu.cfs_quota_us", strconv.Itoa(max(minQuotaMicros, int(l.CPUs*PeriodMicros))))
	}
	return errors.Join(errs...)
}

// What waits in a group's TCP and UDP sockets, which v1 does not count as
// memory: a part of the group's memory, and for small ones more.
const (
	socketsPart  = 8
	leastSockets = 32 << 20
)

// limitSockets bounds what waits in a group's sockets. Only sockets that are
// made later are counted. Kernels that boot with cgroup.memory=nosocket count
// none, see [Parent.Uncounted].
func (h *v1) limitSockets(rel string, bytes int64) error {
	err := write(filepath.Join(h.mem, rel), socketsFile, strconv.FormatInt(bytes, 10))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

const socketsFile = "memory.kmem.tcp.limit_in_bytes"

// denyDevices restricts a group to deviceRules. It is a matter of v1 only: v2
// would need an eBPF program, and the nodev mounts of a user namespace
// already keep a sandbox from opening a device that it was not given.
func (h *v1) denyDevices(rel string) error {
	dir := filepath.Join(h.devices, rel)
	errs := []error{write(dir, "devices.deny", "a")}
	for _, rule := range deviceRules {
		errs = append(errs, write(dir, "devices.allow", rule))
	}
	return errors.Join(errs...)
}

func (h *v1) freeze(rel string, frozen bool) error {
	state := "THAWED"
	if frozen {
		state = "FROZEN"
	}
	return write(filepath.Join(h.freezer, rel), "freezer.state", state)
}

// frozen reads the state; reading also makes the kernel look again at tasks
// that were not stopped yet.
func (h *v1) frozen(rel string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(h.freezer, rel, "freezer.state"))
	return strings.TrimSpace(string(text)) == "FROZEN", err
}

func (h *v1) memory(rel string) (Memory, error) {
	dir := filepath.Join(h.mem, rel)
	var m Memory
	var errs []error
	for _, f := range []struct {
		file string
		at   *int64
	}{{"memory.usage_in_bytes", &m.Current}, {"memory.max_usage_in_bytes", &m.Peak}} {
		v, err := readInt(filepath.Join(dir, f.file))
		*f.at, errs = v, append(errs, err)
	}
	stat, err := readTable(filepath.Join(dir, "memory.stat"))
	m.Cache = stat["total_active_file"] + stat["total_inactive_file"]
	// Kernels without this account have no such file.
	m.Kernel, _ = readInt(filepath.Join(dir, "memory.kmem.usage_in_bytes"))
	oom, err2 := readTable(filepath.Join(dir, "memory.oom_control"))
	m.OOMKills = oom["oom_kill"]
	return m, errors.Join(append(errs, err, err2)...)
}

func readInt(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// readTable reads lines of "key number".
func readTable(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	table := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 {
			if v, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				table[f[0]] = v
			}
		}
	}
	return table, err
}

// views: HotSpot drops all its knowledge of limits where one of these five
// controllers is missing (cgroupSubsystem_linux.cpp of OpenJDK).
func (h *v1) views() []View {
	var views []View
	for _, dir := range []string{h.mem, h.cpu, h.cpuacct, h.cpuset, h.pids} {
		v := View{Name: filepath.Base(dir), Type: "cgroup", Options: h.options[dir]}
		if dir == h.cpu {
			v.Masks = []string{"cpu.cfs_quota_us=-1", "cpu.shares=1024"}
		}
		if dir != "" && !slices.ContainsFunc(views, func(o View) bool { return o.Name == v.Name }) {
			views = append(views, v)
		}
	}
	return views
}
