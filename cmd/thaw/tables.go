// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"thaw.dev/thaw/invoke/sandbox"
)

const (
	// initPids is what a sandbox has beside the function's own processes and
	// threads, with room.
	initPids = 32

	// mostPids is the most that Linux has (PID_MAX_LIMIT of 64-bit machines).
	mostPids = 4 << 20
)

// table is one of the kernel's tables that all processes of the host share.
type table struct {
	name string // below /proc/sys
	need int64  // entries, so that every sandbox may have its own bound at once
}

// tables are those that sandboxes could fill up together although each keeps to
// its bounds. What stands in them is charged to the function's memory, so
// the host loses nothing by larger ones. A quarter of the processes is kept for the
// host (package cgroup).
func (c *serveCmd) tables() []table {
	sandboxes := int64(max(0, c.Sandboxes) + max(0, c.Pool))
	pids := min(mostPids, sandboxes*(sandbox.DefaultPids+initPids)*4/3)
	return []table{
		{"kernel/pid_max", pids},
		{"kernel/threads-max", pids},
		{"fs/file-max", sandboxes * sandbox.DefaultPids * sandbox.DefaultFiles},
	}
}

// raiseTables makes the tables as large as this server's sandboxes may need
// them, and says so. On a host that does not allow it functions may get EAGAIN
// or ENFILE because of others, of which it says one line each.
func (c *serveCmd) raiseTables(root string, log *slog.Logger) {
	for _, t := range c.tables() {
		file := filepath.Join(root, t.name)
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		has, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || has >= t.need {
			continue
		}
		key := strings.ReplaceAll(t.name, "/", ".")
		if err := os.WriteFile(file, strconv.AppendInt(nil, t.need, 10), 0); err != nil {
			log.Warn("functions together can use up a table of the kernel, so that others get none: raise it",
				"command", "sysctl -w "+key+"="+strconv.FormatInt(t.need, 10), "has", has, "sandboxes", c.Sandboxes, "error", err)
			continue
		}
		log.Info("raised a table of the kernel, so that functions can't use it up together", "sysctl", key, "from", has, "to", t.need)
	}
}
