// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw.dev/thaw"
)

const (
	tenant = thaw.TenantID("123456789012")
	name   = "fn-1"
)

func small() Limits {
	l := DefaultLimits()
	l.LineBytes = 16
	return l
}

func create(t *testing.T, l Limits) (*Store, *Writer) {
	t.Helper()
	s, err := Open(t.TempDir(), l)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(tenant, name, NewStream("$LATEST", time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return s, w
}

func texts(t *testing.T, s *Store, o ReadOptions) []string {
	t.Helper()
	var out []string
	for e, err := range s.Read(t.Context(), tenant, name, o) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Text)
	}
	return out
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestLines(t *testing.T) {
	s, w := create(t, small())
	w.Platform("START")
	fmt.Fprint(w, "one\ntw")
	fmt.Fprint(w, "o\n\n")
	fmt.Fprint(w, strings.Repeat("x", 20)+"\n") // longer than a line may be
	fmt.Fprint(w, "no end")
	w.Platform("END", "REPORT")
	w.Flush()
	want := []string{"START", "one", "two", "", strings.Repeat("x", 16), "xxxx", "no end", "END", "REPORT"}
	equal(t, texts(t, s, ReadOptions{}), want...)
	if got := string(w.Tail()); got != strings.Join(want, "\n")+"\n" {
		t.Fatalf("tail %q", got)
	}
	w.TailStart()
	w.Platform("next")
	if got := string(w.Tail()); got != "next\n" {
		t.Fatalf("tail %q", got)
	}
}

func TestTailIsTheLast4KB(t *testing.T) {
	_, w := create(t, DefaultLimits())
	for i := range 5000 {
		fmt.Fprintf(w, "line %d\n", i)
	}
	tail := string(w.Tail())
	if len(tail) != TailBytes || !strings.HasSuffix(tail, "line 4998\nline 4999\n") {
		t.Fatalf("%d bytes, ending %q", len(tail), tail[max(0, len(tail)-40):])
	}
	fmt.Fprintln(w, strings.Repeat("y", 10000))
	if tail := string(w.Tail()); tail != strings.Repeat("y", TailBytes-1)+"\n" {
		t.Fatalf("of a long line: %d bytes", len(tail))
	}
}

func TestRateIsBoundedAndTold(t *testing.T) {
	l := DefaultLimits()
	l.BurstBytes, l.BytesPerSecond = 100, 1
	s, w := create(t, l)
	fmt.Fprintln(w, "first")
	fmt.Fprint(w, "begun")
	for range 10 {
		fmt.Fprintln(w, strings.Repeat("z", 200))
	}
	w.Platform("END")
	w.Flush()
	equal(t, texts(t, s, ReadOptions{}), "first", "begun",
		"[thaw] 2010 bytes of log were dropped: the function printed more than 1 bytes a second", "END")
}

// TestLinesCountTheirTime: lines of one character take no more of the file than
// others may.
func TestLinesCountTheirTime(t *testing.T) {
	l := DefaultLimits()
	l.BurstBytes, l.BytesPerSecond = 1000, 1
	s, w := create(t, l)
	for range 500 {
		fmt.Fprint(w, "x\n")
	}
	w.Flush()
	got := texts(t, s, ReadOptions{})
	if stored := len(got) * (stampBytes + len("x\n")); stored > 1000 || stored < 900 {
		t.Errorf("%d lines, which take %d bytes of 1,000", len(got), stored)
	}
}

// TestFileFollows: what is logged reaches the file by itself, a second time
// too, and at once where there is much of it.
func TestFileFollows(t *testing.T) {
	s, w := create(t, DefaultLimits())
	for n := 1; n <= 2; n++ {
		fmt.Fprintln(w, "printed")
		w.Platform("said")
		for len(texts(t, s, ReadOptions{})) < 2*n {
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Fprint(w, strings.Repeat("much\n", flushBytes/5))
	if got := len(texts(t, s, ReadOptions{})); got != 4+flushBytes/5 {
		t.Fatalf("%d lines", got)
	}
}

func TestFilesAreBounded(t *testing.T) {
	l := DefaultLimits()
	l.FileBytes, l.FunctionBytes = 1000, 5000
	s, w := create(t, l)
	for i := range 400 {
		fmt.Fprintf(w, "line %03d\n", i)
		w.Flush()
	}
	got := texts(t, s, ReadOptions{})
	if len(got) < 50 || len(got) > 200 || got[len(got)-1] != "line 399" {
		t.Fatalf("%d lines, the last %q", len(got), got[len(got)-1])
	}
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatalf("%q after %q", got[i], got[i-1])
		}
	}
}

func TestFileCountIsBounded(t *testing.T) {
	l := DefaultLimits()
	l.FunctionFiles = 3
	s, w := create(t, l)
	for i := range 10 {
		w, err := s.Create(tenant, name, NewStream("1", time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, "stream %d\n", i)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := os.ReadDir(w.dir); err != nil || len(files) > 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
}

// TestConcurrentWriters: whole lines, whoever writes them.
func TestConcurrentWriters(t *testing.T) {
	s, w := create(t, DefaultLimits())
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for range 200 {
				fmt.Fprintf(w, "%d%s\n", g, strings.Repeat("x", 50))
			}
		})
	}
	all.Go(func() {
		for range 200 {
			w.Platform("P")
			w.Flush()
			w.Tail()
		}
	})
	all.Wait()
	w.Flush()
	got := texts(t, s, ReadOptions{})
	if len(got) != 1000 {
		t.Fatalf("%d lines", len(got))
	}
	for _, line := range got {
		if len(line) != 51 && line != "P" {
			t.Fatalf("torn line %q", line)
		}
	}
}

func TestReadMergesStreams(t *testing.T) {
	s, a := create(t, DefaultLimits())
	b, err := s.Create(tenant, name, NewStream("7", time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var middle time.Time
	for i := range 6 {
		if i == 3 {
			middle = time.Now().Truncate(time.Millisecond)
		}
		fmt.Fprintf([]*Writer{a, b}[i%2], "%d\n", i)
		time.Sleep(2 * time.Millisecond)
	}
	a.Flush()
	b.Flush()
	equal(t, texts(t, s, ReadOptions{}), "0", "1", "2", "3", "4", "5")
	equal(t, texts(t, s, ReadOptions{Last: 2}), "4", "5")
	equal(t, texts(t, s, ReadOptions{Since: middle}), "3", "4", "5")
	streams := map[string]bool{}
	for e, err := range s.Read(t.Context(), tenant, name, ReadOptions{}) {
		if err != nil || time.Since(e.Time) > time.Minute {
			t.Fatalf("%+v: %v", e, err)
		}
		streams[e.Stream] = streamName.MatchString(e.Stream)
	}
	if len(streams) != 2 {
		t.Fatalf("streams %v", streams)
	}
}

// TestReadingHoldsNoLog: a reader of long files holds a small part of them,
// while it merges them in order.
func TestReadingHoldsNoLog(t *testing.T) {
	s, _ := create(t, DefaultLimits())
	dir, err := s.functionDir(tenant, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const files, lines = 4, 4096
	begin := time.Now().UTC().Truncate(time.Millisecond)
	for i := range files {
		var text bytes.Buffer
		for j := range lines {
			at := begin.Add(time.Duration(j*files+i) * time.Millisecond)
			fmt.Fprintf(&text, "%s %d %s\n", at.Format(timeLayout), j*files+i, strings.Repeat("x", 1000))
		}
		base := strings.ReplaceAll(NewStream("$LATEST", begin), "/", "-")
		if err := os.WriteFile(filepath.Join(dir, base+".0.log"), text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, n := held(), 0
	for e, err := range s.Read(t.Context(), tenant, name, ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := strings.Cut(e.Text, " "); got != strconv.Itoa(n) {
			t.Fatalf("event %d is %s", n, got)
		}
		if n++; n == files*lines/2 {
			if grown := held() - before; grown > 1<<20 {
				t.Errorf("%d bytes are held of a log of 16 MiB", grown)
			}
		}
	}
	if n != files*lines {
		t.Errorf("%d events, %d were written", n, files*lines)
	}
}

func TestFollow(t *testing.T) {
	s, w := create(t, DefaultLimits())
	fmt.Fprint(w, "old 1\nold 2\n")
	w.Flush()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string)
	go func() {
		defer close(got)
		for e, err := range s.Read(ctx, tenant, name, ReadOptions{Last: 1, Follow: true}) {
			if err != nil {
				t.Error(err)
				return
			}
			got <- e.Text
		}
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case text := <-got:
			if text != want {
				t.Fatalf("%q, want %q", text, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %q", want)
		}
	}
	expect("old 2")
	fmt.Fprint(w, "new 1\nha")
	expect("new 1")
	other, err := s.Create(tenant, name, NewStream("1", time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	fmt.Fprint(other, "other\n")
	expect("other")
	fmt.Fprint(w, "lf\n")
	expect("half")
	cancel()
	for range got {
		t.Error("an event after the end")
	}
}

func TestNoLogs(t *testing.T) {
	s, _ := create(t, DefaultLimits())
	equal(t, texts(t, s, ReadOptions{}))
}

func TestRemove(t *testing.T) {
	s, w := create(t, DefaultLimits())
	fmt.Fprintln(w, "text")
	if err := s.Remove(tenant, name); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(tenant, name); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, string(tenant), name)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestNamesThatEscape(t *testing.T) {
	s, _ := create(t, DefaultLimits())
	stream := NewStream("1", time.Now())
	for _, c := range [][3]string{
		{"..", name, stream}, {"", name, stream}, {string(tenant), "..", stream}, {string(tenant), "a/b", stream},
		{string(tenant), "", stream}, {string(tenant), name, "../../x"}, {string(tenant), name, stream + "/.."},
	} {
		if _, err := s.Create(thaw.TenantID(c[0]), c[1], c[2]); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// TestFullDisk: a writer whose files can't be made goes on, and keeps the tail.
func TestFullDisk(t *testing.T) {
	s, w := create(t, DefaultLimits())
	if err := os.WriteFile(filepath.Join(s.dir, string(tenant)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := fmt.Fprintln(w, "text"); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if got := string(w.Tail()); got != "text\n" {
		t.Fatalf("tail %q", got)
	}
}
