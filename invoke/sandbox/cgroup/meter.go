// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// Meter follows the memory that a group needed at most. The kernel's own peak
// counts the page cache of every file that was read or written, up to the limit,
// which says nothing of what the processes need. It is safe for concurrent use.
type Meter struct {
	group *Group
	disk  int64 // what the files that the group's processes write can take at most

	mu       sync.Mutex
	peak     int64
	wrote    int64     // the most that was seen of what the group's processes wrote to files
	events   *os.File  // the file of oomFile; nil until it is asked for
	text     [512]byte // of it
	closed   bool
	oomKills int64 // as last read
}

// NewMeter returns a meter of g, whose processes can write files of disk bytes
// together.
func NewMeter(g *Group, disk int64) *Meter { return &Meter{group: g, disk: disk} }

// Peak returns the most bytes seen so far: of what is charged to the group
// now, of the kernel's own peak, both less the page cache that is charged now,
// and of the resident set that one of its processes has, or had at most. What
// the processes wrote to files may have been page cache at those peaks, or
// mapped, and be gone now: so much less of them counts, but not more than they
// have room for. v1 does not tell the
// inodes of such files from other memory of the kernel, so none of that counts
// then.
func (m *Meter) Peak() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	use, err := m.group.Memory()
	if err != nil {
		return m.peak, err
	}
	pids, err := m.group.Procs()
	if err != nil {
		return m.peak, err
	}
	wrote, known := int64(0), len(pids) > 0
	for _, pid := range pids {
		changed, ok := written(pid)
		wrote, known = wrote+changed, known && ok
	}
	m.wrote = min(max(m.wrote, wrote), m.disk)
	notOurs := use.Cache
	if m.wrote > 0 {
		notOurs += use.Kernel // which may be the inodes of /tmp
	}
	m.peak = max(m.peak, use.Current-notOurs)
	if known {
		m.peak = max(m.peak, use.Peak-notOurs-m.wrote)
	}
	budget := int64(maxMapsBytes)
	for _, pid := range pids {
		now, highest := residence(pid, m.wrote > 0, &budget)
		m.peak = max(m.peak, now, highest-m.wrote)
	}
	if use.OOMKills > 0 {
		m.peak = max(m.peak, use.Peak)
	}
	return m.peak, nil
}

// OOMKills returns how many processes of the group were killed for want of
// memory in all its life: a counter, which an event is told from by the value
// before. The file stays open until Close, so that each invocation can afford
// it.
func (m *Meter) OOMKills() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.events == nil && !m.closed {
		m.events, _ = os.Open(m.group.oomFile())
	}
	if m.events == nil {
		return m.oomKills // the group is gone, or was never there
	}
	n := m.read()
	for line := range bytes.Lines(m.text[:n]) {
		if value, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			if kills, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err == nil {
				m.oomKills = kills
			}
		}
	}
	return m.oomKills
}

// read reads the file of events. The kernel answers from memory, in less time
// than the scheduler takes to find that a goroutine is in a system call: so it is
// not told (a warm invocation, which waits for this, took 20 us more).
func (m *Meter) read() int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_PREAD64, m.events.Fd(), uintptr(unsafe.Pointer(&m.text[0])), uintptr(len(m.text)), 0, 0, 0)
	runtime.KeepAlive(m)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// Close closes what the meter has open. It goes on to tell what it knew.
func (m *Meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed = true; m.events != nil {
		_ = m.events.Close()
		m.events = nil
	}
}

// oomFile is the file of a group's hierarchies that counts kills.
func (g *Group) oomFile() string {
	for _, dir := range g.h.dirs(g.rel) {
		for _, name := range []string{"memory.oom_control", "memory.events"} {
			if file := filepath.Join(dir, name); syscall.Access(file, 0) == nil {
				return file
			}
		}
	}
	return ""
}

// Last returns what Peak returned last.
func (m *Meter) Last() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peak
}

// residence returns a process's resident set, without mapped files if those of
// /tmp may be among them, and the largest that it had, all files included; 0 if
// it is gone. wrote says whether anything was written to /tmp, budget how many
// bytes may be read to find out what is mapped.
func residence(pid int, wrote bool, budget *int64) (now, highest int64) {
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0, 0
	}
	table := numbers(text)
	now = table["VmRSS"]
	if wrote && mapsTmp(dir+"/maps", budget) {
		now -= table["RssFile"]
	}
	return now << 10, table["VmHWM"] << 10
}

// maxMapsBytes bounds what a look reads of the tables of mappings, of all
// processes together. A process of a large runtime has 200 KB; a hostile one can
// have 65,530 mappings of files with long paths, 250 MB, and a sandbox many of those.
const maxMapsBytes = 1 << 20

// mapsTmp reports whether the mappings that a table lists may be of files of
// /tmp: one is, or the table can't be read within the budget.
func mapsTmp(table string, budget *int64) bool {
	f, err := os.Open(table)
	if err != nil {
		return true
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, *budget))
	*budget -= int64(len(text))
	return err != nil || *budget <= 0 || bytes.Contains(text, loopDevice)
}

// loopDevice is how /proc/PID/maps begins the device of a mapped file of /tmp:
// the only loop device (major number 7) that a sandbox has.
var loopDevice = []byte(" 07:")

// written returns how many bytes of files a process, and those of its children
// that it has waited for, have changed in the page cache. It is false where
// the kernel does not tell, or the process is gone.
func written(pid int) (int64, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/io")
	if err != nil {
		return 0, false
	}
	n, ok := numbers(text)["write_bytes"]
	return n, ok
}

// numbers reads lines of "name: number", whatever is behind it.
func numbers(text []byte) map[string]int64 {
	table := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if f := strings.Fields(value); len(f) > 0 {
			if n, err := strconv.ParseInt(f[0], 10, 64); err == nil {
				table[name] = n
			}
		}
	}
	return table
}
