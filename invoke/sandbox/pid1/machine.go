// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// Machine is the host as its sandboxes see it: some of its processors, and as
// much memory as their limit. It is safe for concurrent use.
type Machine struct {
	info   map[int]string // the part of /proc/cpuinfo that is about a processor
	stat   map[int]string // its line of /proc/stat
	boot   string         // the line of /proc/stat that tells when the host started
	memory int64          // bytes of the host

	mu   sync.Mutex
	use  []use // by processor
	turn int   // where the next look for little used ones begins
}

type use struct{ cpu, sandboxes int }

// ReadMachine looks at the host, and at the processors that this process may
// run on.
func ReadMachine() (*Machine, error) {
	const op = "pid1: machine"
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	var texts [3]string
	for i, path := range []string{"/proc/cpuinfo", "/proc/stat", "/proc/meminfo"} {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, thaw.Wrap(op, err)
		}
		texts[i] = string(text)
	}
	var cpus []int
	for n := range len(set) * strconv.IntSize {
		if set.IsSet(n) {
			cpus = append(cpus, n)
		}
	}
	return newMachine(cpus, texts[0], texts[1], texts[2]), nil
}

func newMachine(cpus []int, cpuinfo, stat, meminfo string) *Machine {
	m := &Machine{info: map[int]string{}, stat: map[int]string{}}
	for _, cpu := range cpus {
		m.use = append(m.use, use{cpu: cpu})
	}
	for part := range strings.SplitSeq(cpuinfo, "\n\n") {
		name, rest, _ := strings.Cut(part, ":")
		number, _, _ := strings.Cut(rest, "\n")
		if n, err := strconv.Atoi(strings.TrimSpace(number)); err == nil && strings.TrimSpace(name) == "processor" {
			m.info[n] = strings.TrimRight(part, "\n") + "\n\n"
		}
	}
	for line := range strings.Lines(stat) {
		name, _, _ := strings.Cut(line, " ")
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "cpu")); err == nil && strings.HasPrefix(name, "cpu") {
			m.stat[n] = line
		}
		if name == "btime" {
			m.boot = line
		}
	}
	if f := strings.Fields(meminfo); len(f) > 1 {
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		m.memory = kib << 10
	}
	return m
}

// Take returns the processors of a sandbox with that memory, those that the
// fewest others have. They are given back by [Machine.Give].
func (m *Machine) Take(memoryBytes int64) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.use)
	order := make([]int, n)
	for i := range order {
		order[i] = (m.turn + i) % n
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.use[a].sandboxes, m.use[b].sandboxes) })
	order = order[:min(n, sandbox.ProcessorsFor(memoryBytes))]
	m.turn = (m.turn + len(order)) % n
	cpus := make([]int, len(order))
	for i, at := range order {
		m.use[at].sandboxes++
		cpus[i] = m.use[at].cpu
	}
	slices.Sort(cpus)
	return cpus
}

// Give gives back what Take returned.
func (m *Machine) Give(cpus []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.use {
		if slices.Contains(cpus, m.use[i].cpu) {
			m.use[i].sandboxes--
		}
	}
}

// View returns what a sandbox with these processors and that memory sees.
func (m *Machine) View(cpus []int, memoryBytes int64) wire.Machine {
	var view wire.Machine
	var info, stat strings.Builder
	for _, cpu := range cpus {
		view.CPUs = append(view.CPUs, strconv.Itoa(cpu))
		info.WriteString(m.info[cpu])
		stat.WriteString(m.stat[cpu])
	}
	view.Online = ranges(cpus) + "\n"
	view.CPUInfo = info.String()
	view.Stat = total(stat.String()) + stat.String() + "intr 0\nctxt 0\n" + m.boot + "processes 0\nprocs_running 1\nprocs_blocked 0\n"
	view.Meminfo = meminfo(memoryBytes, m.memory)
	return view
}

// UsualBytes is the memory for which a sandbox is prepared before it is known
// what it will run.
const UsualBytes = 128 << 20

// Change turns a sandbox that was prepared for [UsualBytes] into one with other
// memory. It returns its processors from now on and what differs in what it
// sees, the rest being empty.
func (m *Machine) Change(cpus []int, memoryBytes int64) ([]int, wire.Machine) {
	if len(cpus) != min(len(m.use), sandbox.ProcessorsFor(memoryBytes)) {
		m.Give(cpus)
		cpus = m.Take(memoryBytes)
		return cpus, m.View(cpus, memoryBytes)
	}
	var view wire.Machine
	for _, cpu := range cpus {
		view.CPUs = append(view.CPUs, strconv.Itoa(cpu))
	}
	if memoryBytes != UsualBytes {
		view.Meminfo = meminfo(memoryBytes, m.memory)
	}
	return cpus, view
}

// ranges writes ascending numbers as sysfs does: "0-1,4".
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		end := i
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}
		part := strconv.Itoa(numbers[i])
		if end > i {
			part += "-" + strconv.Itoa(numbers[end])
		}
		parts, i = append(parts, part), end+1
	}
	return strings.Join(parts, ",")
}

// total is the line of /proc/stat that sums up those of processors.
func total(lines string) string {
	var sums []int64
	for line := range strings.Lines(lines) {
		for i, field := range strings.Fields(line)[1:] {
			if i == len(sums) {
				sums = append(sums, 0)
			}
			n, _ := strconv.ParseInt(field, 10, 64)
			sums[i] += n
		}
	}
	return "cpu  " + strings.Trim(fmt.Sprint(sums), "[]") + "\n"
}

// meminfo is /proc/meminfo of a machine that has so much memory, all of it free.
func meminfo(limit, host int64) string {
	kib := limit >> 10
	if limit == 0 || limit > host {
		kib = host >> 10
	}
	var b strings.Builder
	for _, line := range []struct {
		name string
		kib  int64
	}{
		{"MemTotal", kib}, {"MemFree", kib}, {"MemAvailable", kib}, {"Buffers", 0}, {"Cached", 0}, {"SwapCached", 0}, {"Active", 0}, {"Inactive", 0},
		{"SwapTotal", 0}, {"SwapFree", 0}, {"Dirty", 0}, {"Writeback", 0}, {"AnonPages", 0}, {"Mapped", 0}, {"Shmem", 0},
		{"Slab", 0}, {"SReclaimable", 0}, {"SUnreclaim", 0},
	} {
		fmt.Fprintf(&b, "%-15s %8d kB\n", line.name+":", line.kib)
	}
	return b.String()
}
