// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRaiseTables: small tables are raised, large ones stay, and what can't be
// raised is told with the command that does it.
func TestRaiseTables(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("kernel/pid_max", "32768\n")
	put("fs/file-max", "9223372036854775807\n")
	if err := os.MkdirAll(filepath.Join(root, "kernel/threads-max"), 0o755); err != nil { // which can't be read
		t.Fatal(err)
	}
	var log bytes.Buffer
	c := &serveCmd{Sandboxes: 100}
	c.raiseTables(root, slog.New(slog.NewTextHandler(&log, nil)))
	for name, want := range map[string]string{"kernel/pid_max": "140800", "fs/file-max": "9223372036854775807\n"} {
		if text, _ := os.ReadFile(filepath.Join(root, name)); string(text) != want {
			t.Errorf("%s is %q, not %q", name, text, want)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "kernel.pid_max") {
		t.Errorf("the log says %q", text)
	}

	log.Reset()
	pids := filepath.Join(root, "kernel/pid_max")
	if err := os.Remove(pids); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/sys/kernel/cap_last_cap", pids); err != nil { // a number that nobody may write
		t.Fatal(err)
	}
	c.raiseTables(root, slog.New(slog.NewTextHandler(&log, nil)))
	if text := log.String(); !strings.Contains(text, "sysctl -w kernel.pid_max=140800") {
		t.Errorf("the log says %q", text)
	}
}
