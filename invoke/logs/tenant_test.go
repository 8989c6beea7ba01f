// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw"
)

// TestTenantBytes: the logs of a tenant take no more than they may, however many
// functions it has; the oldest files go, the logs that lose some say so, and
// another tenant's stay.
func TestTenantBytes(t *testing.T) {
	l := DefaultLimits()
	l.TenantBytes = 1 << 20
	s, err := Open(t.TempDir(), l)
	if err != nil {
		t.Fatal(err)
	}
	const other thaw.TenantID = "210987654321"
	print := func(tenant thaw.TenantID, function, text string, n int) *Writer {
		t.Helper()
		w, err := s.Create(tenant, function, NewStream("$LATEST", time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			w.Platform(text)
		}
		return w
	}
	// From before the start, and counted by Run.
	line := strings.Repeat("x", 1000)
	for i := range 5 {
		function := fmt.Sprintf("old-%d", i)
		if err := print(tenant, function, line, 100).Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(s.dir, string(tenant), function, "*.log"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(files[0], at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := print(other, "f", line, 100).Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, slog.New(slog.DiscardHandler)) }()
	until := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			if t.Context().Err() != nil {
				t.Fatal(what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	until("not counted", func() bool { _, known := s.bytes.Used(string(other)); return known })
	until("not counted", func() bool { _, known := s.bytes.Used(string(tenant)); return known })
	if u := s.bytes.Usage(nil); u.Most < 500_000 || u.Most > 600_000 || u.Refused != 0 {
		t.Errorf("at the start: %+v", u)
	}

	// A function that is never quiet: two files of 300,000 bytes.
	a, b := print(tenant, "new", line, 300), print(tenant, "new", line, 300)
	a.Flush()
	b.Flush()
	until("over the bound", func() bool { used, _ := s.bytes.Used(string(tenant)); return used <= l.TenantBytes })
	size := func(tenant thaw.TenantID, function string) (n int64) {
		list, err := segments(filepath.Join(s.dir, string(tenant), function))
		if err != nil {
			t.Fatal(err)
		}
		for _, seg := range list {
			n += seg.bytes
		}
		return n
	}
	if size(tenant, "old-0") != 0 || size(tenant, "old-4") == 0 || size(tenant, "new") < 600_000 {
		t.Errorf("left: %d and %d of the old, %d of the new", size(tenant, "old-0"), size(tenant, "old-4"), size(tenant, "new"))
	}
	if _, err := os.Stat(filepath.Join(s.dir, string(tenant), "old-0")); err == nil {
		t.Error("an empty folder is left")
	}
	if size(other, "f") < 100_000 {
		t.Error("another tenant lost logs")
	}
	if u := s.bytes.Usage(nil); u.Refused == 0 {
		t.Errorf("%+v", u)
	}
	// One that has another file is told.
	a.Platform(strings.Repeat(line, 200))
	a.Flush()
	for i := range 4 {
		w := print(tenant, "new", line, 200)
		w.Flush()
		_ = i
	}
	until("a loss is not told", func() bool {
		for e, err := range s.Read(t.Context(), tenant, "new", ReadOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(e.Text, "[thaw] the oldest ") && strings.Contains(e.Text, "more than 1048576 bytes") {
				return true
			}
		}
		return false
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
