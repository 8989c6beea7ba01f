// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// fakeMachine is a host whose server may run on n of its processors, from
// first on.
func fakeMachine(first, n int) *Machine {
	var info, stat strings.Builder
	stat.WriteString("cpu  1 2 3\n")
	var cpus []int
	for i := range first + n {
		fmt.Fprintf(&info, "processor\t: %d\nmodel name\t: No. %d\n\n", i, i)
		fmt.Fprintf(&stat, "cpu%d %d 10 100\n", i, i)
		if i >= first {
			cpus = append(cpus, i)
		}
	}
	stat.WriteString("intr 99 1\nctxt 7\nbtime 1700000000\n")
	return newMachine(cpus, info.String(), stat.String(), "MemTotal:       67108864 kB\nMemFree: 1 kB\n")
}

func TestMachineView(t *testing.T) {
	m := fakeMachine(8, 64)
	m.Give(m.Take(128 << 20)) // the next ones are others, though these are free
	cpus := m.Take(4000 << 20)
	if fmt.Sprint(cpus) != "[10 11 12]" {
		t.Fatalf("4,000 MB got processors %v", cpus)
	}
	v := m.View(cpus, 4000<<20)
	if fmt.Sprint(v.CPUs) != "[10 11 12]" || v.Online != "10-12\n" {
		t.Errorf("processors %v, online %q", v.CPUs, v.Online)
	}
	if want := "processor\t: 10\nmodel name\t: No. 10\n\nprocessor\t: 11\nmodel name\t: No. 11\n\nprocessor\t: 12\nmodel name\t: No. 12\n\n"; v.CPUInfo != want {
		t.Errorf("cpuinfo %q", v.CPUInfo)
	}
	if !strings.HasPrefix(v.Stat, "cpu  33 30 300\ncpu10 10 10 100\ncpu11 11 10 100\ncpu12 12 10 100\nintr 0\n") || !strings.Contains(v.Stat, "\nbtime 1700000000\n") {
		t.Errorf("stat %q", v.Stat)
	}
	if !strings.HasPrefix(v.Meminfo, "MemTotal:        4096000 kB\nMemFree:         4096000 kB\n") {
		t.Errorf("meminfo %q", v.Meminfo)
	}
	if none := m.View(cpus, 0); !strings.HasPrefix(none.Meminfo, "MemTotal:       67108864 kB\n") {
		t.Errorf("without a limit: %q", none.Meminfo)
	}
}

// TestMachineChange: a prepared sandbox is told what differs, and no more.
func TestMachineChange(t *testing.T) {
	m := fakeMachine(0, 8)
	for mb, want := range map[int64]struct {
		processors int
		cpuinfo    bool
		meminfo    string
	}{128: {2, false, ""}, 512: {2, false, "524288"}, 4000: {3, true, "4096000"}} {
		cpus, v := m.Change(m.Take(UsualBytes), mb<<20)
		if len(cpus) != want.processors || len(v.CPUs) != want.processors || (v.CPUInfo != "") != want.cpuinfo || (v.Meminfo == "") != (want.meminfo == "") || !strings.Contains(v.Meminfo, want.meminfo) {
			t.Errorf("%d MB: %v, %+v", mb, cpus, v)
		}
		m.Give(cpus)
	}
	for _, u := range m.use {
		if u.sandboxes != 0 {
			t.Errorf("left: %+v", m.use)
		}
	}
}

// TestMachineSpreads: processors have about as many sandboxes as each other, also
// after some ended, and a small host gives all that it has.
func TestMachineSpreads(t *testing.T) {
	m := fakeMachine(0, 16)
	var held [][]int
	for i := range 400 {
		if i%3 == 2 {
			m.Give(held[0])
			held = held[1:]
		}
		held = append(held, m.Take(int64(128+i*25)<<20))
	}
	count := make([]int, 16)
	for _, cpus := range held {
		if !slices.IsSorted(cpus) || len(slices.Compact(slices.Clone(cpus))) != len(cpus) {
			t.Fatalf("processors %v", cpus)
		}
		for _, cpu := range cpus {
			count[cpu]++
		}
	}
	if slices.Max(count) > slices.Min(count)+4 {
		t.Errorf("sandboxes by processor: %v", count)
	}
	for _, cpus := range held {
		m.Give(cpus)
	}
	for _, u := range m.use {
		if u.sandboxes != 0 {
			t.Fatalf("left: %+v", m.use)
		}
	}
	if one := fakeMachine(3, 1); fmt.Sprint(one.Take(10240<<20)) != "[3]" {
		t.Error("a host with one processor")
	}
}

func TestRanges(t *testing.T) {
	for want, numbers := range map[string][]int{"0-1": {0, 1}, "17,45": {17, 45}, "0-2,4,6-7": {0, 1, 2, 4, 6, 7}, "3": {3}} {
		if got := ranges(numbers); got != want {
			t.Errorf("%v: %q", numbers, got)
		}
	}
}
