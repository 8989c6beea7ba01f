// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/bench/measure"
)

// watchEvery is how often a process is looked at: short beside any ingest.
const watchEvery = 20 * time.Millisecond

// watch looks at a server and the processes in which it makes images: for their
// memory, and for the disk of their temporary files, which have no name any more.
type watch struct {
	pid  int
	stop chan struct{}
	most chan cost // once stopped
}

func watchProcess(pid int) *watch {
	w := &watch{pid: pid, stop: make(chan struct{}), most: make(chan cost)}
	go func() {
		var most cost
		for {
			select {
			case <-w.stop:
				w.most <- most
				return
			case <-time.After(watchEvery):
				for _, child := range append(ingests(pid), pid) {
					most.tempMB = max(most.tempMB, deletedMB(child))
					if mb, err := measure.PeakMB(child); err == nil && child != pid { // else it has ended
						most.residentMB = max(most.residentMB, mb)
					}
				}
			}
		}
	}()
	return w
}

// end stops watching.
func (w *watch) end() (cost, error) {
	close(w.stop)
	c := <-w.most
	server, err := measure.PeakMB(w.pid)
	c.residentMB += server
	return c, err
}

// ingests are the children of a server that make images.
func ingests(server int) []int {
	var pids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", server))
	for _, file := range tasks {
		text, _ := os.ReadFile(file) // a thread may be gone
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			args, _ := os.ReadFile(filepath.Join("/proc", field, "cmdline"))
			if err == nil && strings.Contains(string(args), "\x00ingest\x00") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
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
