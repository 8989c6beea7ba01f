// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ProcessorTime is what a process has used, to the kernel's hundredth of a
// second.
func ProcessorTime(pid int) (time.Duration, error) { return processorTime(pid, 2) }

// ProcessorTimeOfAll is [ProcessorTime] with that of the process's children that
// have ended.
func ProcessorTimeOfAll(pid int) (time.Duration, error) { return processorTime(pid, 4) }

// processorTime adds up the first n of utime, stime, cutime and cstime.
func processorTime(pid, n int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name, which may hold anything, they are the 12th to the 15th
	// (proc(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, field := range fields[11 : 11+n] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil
}

// PeakMB is the most memory that a process had resident since it began, or since
// [ResetPeak], in MiB.
func PeakMB(pid int) (int64, error) { return memoryMB(pid, "VmHWM") }

// FilesMB is what a process has resident now of files, its program among them, in
// MiB.
func FilesMB(pid int) (int64, error) { return memoryMB(pid, "RssFile") }

// memoryMB is a line of a process's status (proc(5)), in MiB.
func memoryMB(pid int, name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(status), name+":")
	if !found {
		return 0, fmt.Errorf("process %d tells no %s", pid, name)
	}
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kib >> 10, err
}

// ResetPeak has a process's peak begin at what it has resident now.
func ResetPeak(pid int) error {
	const peaks = "5" // proc(5), clear_refs
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(peaks), 0)
}

// ReadPathPID is the process id of the loader or the holder of the server on a data
// folder.
func ReadPathPID(data, process string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "run", "read", process+".pid"))
	if err != nil {
		return 0, err
	}
	var id struct {
		PID int `json:"pid"`
	}
	err = json.Unmarshal(text, &id)
	return id.PID, err
}
