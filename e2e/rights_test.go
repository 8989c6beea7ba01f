// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/testkit"
)

// TestRights: the real processes have no more rights than they use, a successor
// neither, and when memory runs out functions go first, then the loader, then the
// server.
func TestRights(t *testing.T) {
	for _, kind := range []string{"jail", "oci"} {
		if kind == "oci" {
			testkit.RequireTool(t, "crun")
		}
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, "--sandbox", kind)
			client := w.create(t.Context(), "inside", w.push("probe:1", "probe:v1"))
			w.wantRights()
			payload, failed := invoke(t.Context(), t, client, "inside", `{"read":"/proc/self/oom_score_adj"}`)
			if score := strings.Trim(payload, `"\n`); failed != "" || score != `1000` {
				t.Errorf("a function's score is %s, %s", payload, failed)
			}
			w.killLoader()
			if payload, failed := invoke(t.Context(), t, client, "inside", `{"read":"/etc/passwd"}`); failed != "" {
				t.Errorf("after the loader's death: %s %s", failed, payload)
			}
			w.wantRights()
		})
	}
}

// TestIngestRights: what unpacks a stranger's image has fewer rights still.
func TestIngestRights(t *testing.T) {
	ref := silent(t, func() {}, func(ctx context.Context) { <-ctx.Done() })
	host, _, _ := strings.Cut(ref, "/")
	w := newWorld(t, "--allow-registry", "http://"+host)
	creds, err := w.Credentials(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	w.begin(w.Lambda(creds), "unpacked", ref)
	var now processStatus
	until(t.Context(), t, "its rights", func() bool {
		for _, pid := range w.ingests() { // one waits for the next image, with all rights until then
			if now = processStatusOf(t, pid); now.filtered {
				return true
			}
		}
		return false
	})
	want := uint64(1 << unix.CAP_DAC_OVERRIDE)
	if now.capabilities["CapPrm"] != want || now.capabilities["CapEff"] != want || now.capabilities["CapBnd"] != want || !now.noNewPrivs || now.score != 300 {
		t.Errorf("%+v", now)
	}
}

// wantRights looks at the server, the loader and the holder as they are now.
func (w *world) wantRights() {
	w.t.Helper()
	mask := func(capabilities ...int) (m uint64) {
		for _, c := range capabilities {
			m |= 1 << c
		}
		return m
	}
	server := processStatusOf(w.t, w.PID())
	// A machine that lets nobody protect itself from being killed still has an order.
	score := func(lowered, raised int) int {
		if server.capabilities["CapEff"]&mask(unix.CAP_SYS_RESOURCE) == 0 {
			return raised
		}
		return lowered
	}
	if have := server.capabilities["CapEff"]; have&mask(unix.CAP_SYS_ADMIN) == 0 || have&mask(unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_SYS_BOOT, unix.CAP_SYS_TIME, unix.CAP_NET_RAW) != 0 ||
		have != server.capabilities["CapBnd"] || server.score != score(-900, 0) {
		w.t.Errorf("the server: %+v", server)
	}
	for _, c := range []struct {
		file         string
		capabilities uint64
		score        int
	}{{"loader.pid", mask(unix.CAP_DAC_OVERRIDE), score(-500, 100)}, {"holder.pid", mask(unix.CAP_DAC_OVERRIDE, unix.CAP_SYS_ADMIN), score(-950, 0)}} {
		var now processStatus
		// A successor writes the file after it has given up what it does not use; until
		// then the file names the one that is dead.
		until(w.t.Context(), w.t, c.file, func() bool {
			var id struct{ PID int }
			text, err := os.ReadFile(filepath.Join(w.Data, "run", "read", c.file))
			if err != nil || json.Unmarshal(text, &id) != nil || unix.Kill(id.PID, 0) != nil {
				return false
			}
			now = processStatusOf(w.t, id.PID)
			return true
		})
		for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
			if now.capabilities[set] != c.capabilities {
				w.t.Errorf("%s: %s is %#x, want %#x", c.file, set, now.capabilities[set], c.capabilities)
			}
		}
		if now.capabilities["CapInh"] != 0 || now.capabilities["CapAmb"] != 0 || !now.noNewPrivs || !now.filtered || now.score != c.score {
			w.t.Errorf("%s: %+v", c.file, now)
		}
	}
}

// processStatus is what the kernel says of a process.
type processStatus struct {
	capabilities         map[string]uint64
	noNewPrivs, filtered bool
	score                int // its oom_score_adj
}

func processStatusOf(t *testing.T, pid int) processStatus {
	t.Helper()
	s := processStatus{capabilities: map[string]uint64{}}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch {
		case strings.HasPrefix(key, "Cap"):
			if s.capabilities[key], err = strconv.ParseUint(value, 16, 64); err != nil {
				t.Fatal(err)
			}
		case key == "NoNewPrivs":
			s.noNewPrivs = value == "1"
		case key == "Seccomp":
			s.filtered = value == "2"
		}
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	if s.score, err = strconv.Atoi(strings.TrimSpace(string(score))); err != nil {
		t.Fatal(err)
	}
	return s
}
