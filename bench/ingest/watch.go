// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/bench/measure"
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
	c.residentMB, err = measure.PeakMB(w.pid)
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
