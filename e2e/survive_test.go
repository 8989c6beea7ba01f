// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// killLoader kills the process behind the mounts, as a crash would.
func (w *world) killLoader() {
	w.t.Helper()
	var id struct{ PID int }
	text, err := os.ReadFile(filepath.Join(w.Data, "run", "read", "loader.pid"))
	if err == nil {
		err = json.Unmarshal(text, &id)
	}
	if err != nil || id.PID <= 1 {
		w.t.Fatalf("the loader's pid file: %v, %s", err, text)
	}
	// It may have been killed the round before and not be replaced yet.
	if err := syscall.Kill(id.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		w.t.Fatal(err)
	}
}

// TestFunctionsSurviveTheLoader kills the loader again and again, and empties
// the caches, while functions hash the whole tree they run in: every answer is
// right, and none of the sandboxes is another than before.
func TestFunctionsSurviveTheLoader(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	client := w.create(ctx, "hash", w.push("py-hello-probe:1", "hash:v1"))
	want, failed := invoke(ctx, t, client, "hash", `{"hash":"/usr"}`)
	if failed != "" {
		t.Fatalf("hash: %s: %s", failed, want)
	}
	process, _ := invoke(ctx, t, client, "hash", `{"pid":true}`)
	for round := range 6 {
		// A fresh mount has nothing cached: every read goes to the loader.
		if _, err := client.UpdateFunctionConfiguration(ctx, describe("hash", round)); err != nil {
			t.Fatal(err)
		}
		var reads sync.WaitGroup
		for range 2 {
			reads.Go(func() {
				if got, failed := invoke(ctx, t, client, "hash", `{"hash":"/usr"}`); failed != "" || got != want {
					t.Errorf("round %d: %s %s, want %s", round, failed, got, want)
				}
			})
		}
		for range 3 {
			w.killLoader()
			if _, err := w.Thaw(ctx, "cache", "drop", "l1"); err != nil {
				t.Error(err)
			}
		}
		reads.Wait()
		again, _ := invoke(ctx, t, client, "hash", `{"pid":true}`)
		if again == process {
			t.Fatalf("round %d: a change of configuration left the old sandbox: %s", round, again)
		}
		process = again
	}
	if n := strings.Count(w.Log.String(), "the loader died"); n < 6 {
		t.Errorf("the loader died %d times, at least 6 were meant", n)
	}
}

// mountsBelow lists the mount points in the server's folder.
func mountsBelow(t *testing.T, data string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], data+"/") {
			found = append(found, fields[4])
		}
	}
	return found
}

// processesNaming lists the command lines that name the server's folder.
func processesNaming(t *testing.T, data string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), data) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}
