package cgroup

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Meter follows the memory that a group needed at most. The kernel's own peak
// counts the page cache of every file that was read, up to the limit, which
// says nothing of what the processes need. It is safe for concurrent use.
type Meter struct {
	group *Group

	mu       sync.Mutex
	peak     int64
	oomFile  string // "" until it is asked for
	oomKills int64  // as last read
}

// NewMeter returns a meter of g.
func NewMeter(g *Group) *Meter { return &Meter{group: g} }

// Peak returns the most bytes seen so far: of what is charged to the group
// now, of the kernel's own peak, both less the page cache that is charged now,
// and of the largest resident set that one of its processes ever had.
func (m *Meter) Peak() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	use, err := m.group.Memory()
	if err != nil {
		return m.peak, err
	}
	m.peak = max(m.peak, use.Current-use.Cache, use.Peak-use.Cache)
	if use.OOMKills > 0 {
		m.peak = max(m.peak, use.Peak)
	}
	pids, err := m.group.Procs()
	if err != nil {
		return m.peak, err
	}
	for _, pid := range pids {
		m.peak = max(m.peak, highWater(pid))
	}
	return m.peak, nil
}

// OOMKills returns how many processes of the group were killed for want of
// memory in all its life: a counter, which an event is told from by the value
// before. It is cheap enough for each invocation: three system calls, 4 us.
func (m *Meter) OOMKills() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.oomFile == "" {
		m.oomFile = m.group.oomFile()
	}
	fd, err := syscall.Open(m.oomFile, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return m.oomKills // the group is gone, or was never there
	}
	defer syscall.Close(fd)
	var text [1024]byte
	n, err := syscall.Read(fd, text[:])
	if err != nil {
		return m.oomKills
	}
	for line := range bytes.Lines(text[:n]) {
		if value, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			if kills, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err == nil {
				m.oomKills = kills
			}
		}
	}
	return m.oomKills
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

// highWater returns a process's largest resident set, 0 if it is gone.
func highWater(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
