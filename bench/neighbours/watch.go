// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"thaw.dev/thaw/bench/measure"
)

// watch follows the memory of a server's processes. They are looked for again
// and again: the loader may be replaced, and others come and go.
type watch struct {
	data, binary string
	peaks        map[int]int64  // MiB, by process id
	roles        map[int]string // serve, loader, holder or another command
	stop, done   chan struct{}
}

// watchEvery is how often processes are looked for. A peak between two looks is
// not missed: the kernel keeps it.
const watchEvery = 200 * time.Millisecond

// watch has the peaks begin now.
func (w *world) watch() *watch {
	p := &watch{data: w.server.Data, binary: w.program.path, peaks: map[int]int64{}, roles: map[int]string{}, stop: make(chan struct{}), done: make(chan struct{})}
	p.look(true)
	go func() {
		defer close(p.done)
		for tick := time.NewTicker(watchEvery); ; {
			select {
			case <-p.stop:
				tick.Stop()
				p.look(false)
				return
			case <-tick.C:
				p.look(false)
			}
		}
	}()
	return p
}

// look notes the peak of each process of the server's program that has its data
// folder among its arguments.
func (p *watch) look(reset bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		role, ok := p.role(pid)
		if !ok {
			continue
		}
		if reset {
			_ = measure.ResetPeak(pid)
		}
		if mb, err := measure.PeakMB(pid); err == nil {
			p.peaks[pid], p.roles[pid] = max(p.peaks[pid], mb), role
		}
	}
}

func (p *watch) role(pid int) (string, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if exe, err := os.Readlink(filepath.Join(dir, "exe")); err != nil || exe != p.binary {
		return "", false
	}
	text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil || !bytes.Contains(text, []byte(p.data+"\x00")) {
		return "", false
	}
	args := bytes.Split(text, []byte{0})
	if len(args) < 2 {
		return "", false
	}
	return string(args[1]), true
}

// end returns the peak of server, loader and holder together, and the peaks of
// other processes, by their roles. Of a role that had several processes it is
// the largest.
func (p *watch) end() (mb int64, others map[string]int64) {
	close(p.stop)
	<-p.done
	most := map[string]int64{}
	for pid, peak := range p.peaks {
		most[p.roles[pid]] = max(most[p.roles[pid]], peak)
	}
	for _, role := range []string{"serve", "loader", "holder"} {
		mb += most[role]
		delete(most, role)
	}
	return mb, most
}
