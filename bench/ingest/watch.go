package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watchEvery is how often a process is looked at: short beside any ingest.
const watchEvery = 20 * time.Millisecond

// watch looks at a process for the disk of its temporary files, which have no
// name any more.
type watch struct {
	pid    int
	stop   chan struct{}
	tempMB chan int64 // the most there was, once stopped
}

func watchProcess(pid int) *watch {
	w := &watch{pid: pid, stop: make(chan struct{}), tempMB: make(chan int64)}
	go func() {
		var most int64
		for {
			select {
			case <-w.stop:
				w.tempMB <- most
				return
			case <-time.After(watchEvery):
				most = max(most, deletedMB(pid))
			}
		}
	}()
	return w
}

// end stops watching.
func (w *watch) end() (cost, error) {
	close(w.stop)
	c := cost{tempMB: <-w.tempMB}
	var err error
	c.residentMB, err = peakMB(w.pid)
	return c, err
}

// deletedMB is the disk of the files that a process has open and that have no
// name.
func deletedMB(pid int) int64 {
	var blocks int64
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, "/") || !strings.HasSuffix(target, " (deleted)") {
			continue
		}
		var stat unix.Stat_t
		if unix.Stat(link, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG {
			blocks += stat.Blocks
		}
	}
	return blocks * 512 >> 20
}

// peakMB is the most memory that a process had resident so far, in MiB.
func peakMB(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	if !found {
		return 0, fmt.Errorf("process %d tells no peak of memory", pid)
	}
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kib >> 10, err
}
