// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// v2 is the unified hierarchy.
type v2 struct {
	root        string
	controllers []string // what groups need; the thaw folder's ancestors must offer it
}

func (h *v2) dirs(rel string) []string { return []string{filepath.Join(h.root, rel)} }

// make makes the group and hands the controllers down to it: a group has those
// that cgroup.subtree_control of each of its ancestors lists.
func (h *v2) make(rel string) error {
	dir := h.root
	for _, element := range strings.Split(rel, "/") {
		for _, c := range h.controllers {
			if err := write(dir, "cgroup.subtree_control", "+"+c); err != nil {
				return err
			}
		}
		dir = filepath.Join(dir, element)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func (h *v2) limit(rel string, l Limits) error {
	dir := filepath.Join(h.root, rel)
	var errs []error
	set := func(file, value string) { errs = append(errs, write(dir, file, value)) }
	if l.MemoryBytes > 0 {
		set("memory.max", strconv.FormatInt(l.MemoryBytes, 10))
		// Kernels without swap accounting have no such file.
		if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err == nil {
			set("memory.swap.max", "0")
		}
	}
	if l.Pids > 0 {
		set("pids.max", strconv.Itoa(l.Pids))
	}
	if shares := max(l.Shares, l.CPUs); shares > 0 {
		// 100 is the default weight, which v1 calls 1024 shares: one CPU.
		set("cpu.weight", strconv.Itoa(min(10_000, max(1, int(shares*100)))))
	}
	if l.CPUs > 0 {
		quota := max(minQuotaMicros, int(l.CPUs*PeriodMicros))
		set("cpu.max", strconv.Itoa(quota)+" "+strconv.Itoa(PeriodMicros))
	}
	return errors.Join(errs...)
}

func (h *v2) freeze(rel string, frozen bool) error {
	value := "0"
	if frozen {
		value = "1"
	}
	return write(filepath.Join(h.root, rel), "cgroup.freeze", value)
}

// frozen reads cgroup.events instead of waiting for its notification, which
// the kernel holds back for about 10 ms.
func (h *v2) frozen(rel string) (bool, error) {
	events, err := readTable(filepath.Join(h.root, rel, "cgroup.events"))
	return events["frozen"] == 1, err
}

func (h *v2) memory(rel string) (Memory, error) {
	dir := filepath.Join(h.root, rel)
	var m Memory
	var errs []error
	v, err := readInt(filepath.Join(dir, "memory.current"))
	m.Current, errs = v, append(errs, err)
	// memory.peak came with Linux 5.19; without it the current value is what
	// is known of the peak.
	if m.Peak, err = readInt(filepath.Join(dir, "memory.peak")); err != nil {
		m.Peak = m.Current
	}
	stat, err := readTable(filepath.Join(dir, "memory.stat"))
	errs = append(errs, err)
	m.Cache = stat["active_file"] + stat["inactive_file"] + stat["slab_reclaimable"]
	events, err := readTable(filepath.Join(dir, "memory.events"))
	m.OOMKills = events["oom_kill"]
	return m, errors.Join(append(errs, err)...)
}

func (h *v2) views() []View {
	return []View{{Type: "cgroup2", Masks: []string{"cpu.max=max 100000", "cpu.weight=100"}}}
}
