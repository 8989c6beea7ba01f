// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"strings"
	"testing"

	"thaw.dev/thaw/invoke/sandbox"
)

// filled is what the probe tells of files that it wrote.
type filled struct {
	Written, Files int
	Error          string
}

func testTmpSize(t *testing.T, h *harness) {
	for name, c := range map[string]struct {
		bytes int64
		want  filled
		write string
	}{
		"8 MiB":       {8 << 20, filled{Written: 8 << 20, Error: "ENOSPC"}, "20"},
		"the default": {0, filled{Written: 512 << 20, Error: "ENOSPC"}, "600"},
		"10,240 MiB":  {10240 << 20, filled{Written: 600 << 20, Error: "ok"}, "600"},
	} {
		t.Run(name, func(t *testing.T) {
			var got filled
			b := h.start(t, func(s *sandbox.Spec) { s.TmpBytes = c.bytes }, "fill", "/tmp/x", c.write)
			if b.answer(t, &got); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			b.stop(t)
		})
	}
	var size []int64
	h.start(t, func(s *sandbox.Spec) { s.TmpBytes = 10240 << 20 }, "size", "/tmp").answer(t, &size)
	if free := size[1]; free < 10240<<20 || free > 10240<<20+1<<20 {
		t.Errorf("10,240 MiB of /tmp have %d bytes", free)
	}
}

// testTmpIsNoMemory: a sandbox with little memory writes much to its /tmp, in
// every way, and is neither killed nor told to have needed memory for it.
func testTmpIsNoMemory(t *testing.T, h *harness) {
	for _, way := range []string{"once", "synced", "mapped", "small", "removed", "read"} {
		t.Run(way, func(t *testing.T) {
			b := h.start(t, func(s *sandbox.Spec) { s.MemoryBytes = 128 << 20 }, "files", way, "/tmp", "400", "hold")
			b.says(t, "done ")
			if got := b.out.String(); got != "done ok\n" {
				t.Errorf("it printed %q, %q", got, b.errs)
			}
			peak, err := b.Sandbox.(sandbox.Meter).MemoryPeak(t.Context())
			if err != nil || peak > 40<<20 {
				t.Errorf("its memory was at most %d MiB, %v", peak>>20, err)
			}
			b.stop(t)
			if exit := b.Exit(); exit.OOMKills > 0 {
				t.Errorf("out of memory: %+v", exit)
			}
		})
	}
}

// testTmpOfMany: /tmp holds many files, and says ENOSPC where it can't have
// more.
func testTmpOfMany(t *testing.T, h *harness) {
	var got filled
	h.start(t, func(s *sandbox.Spec) { s.TmpBytes, s.MemoryBytes = 8<<20, 128<<20 }, "many", "/tmp", "20000").answer(t, &got)
	if got.Error != "ENOSPC" || got.Files < 8000 {
		t.Errorf("8 MiB of /tmp: %+v", got)
	}
}

// testTmpFreeze: what is in /tmp stays over a freeze, although it is not
// written yet, and others are not held up meanwhile.
func testTmpFreeze(t *testing.T, h *harness) {
	b := h.start(t, nil, "keep", "/tmp/x", "50")
	b.says(t, "wrote")
	for range 2 {
		if err := b.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		var other filled
		h.start(t, nil, "fill", "/tmp/x", "50").answer(t, &other)
		if other.Error != "ok" {
			t.Errorf("another, meanwhile: %+v", other)
		}
		before := len(b.out.String())
		if err := b.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "it reads its file again", func() bool { return len(b.out.String()) > before })
	}
	if out := b.out.String(); strings.Contains(out, "lost") {
		t.Errorf("it printed %q", out)
	}
}

// testTmpClean: what a sandbox wrote no later one finds, neither as a file nor
// as bytes of a file that it makes.
func testTmpClean(t *testing.T, h *harness) {
	const secret = "squeamish-ossifrage"
	for range 6 {
		var found []string
		b := h.start(t, nil, "stain", "/tmp", secret, "40")
		if b.answer(t, &found); len(found) > 0 {
			t.Errorf("it finds %v of another", found)
		}
		b.stop(t)
	}
}

// testDisks: the kernel shows the disks of every sandbox in one place, with the
// folder of the host that they are in and how much was written to each.
func testDisks(t *testing.T, h *harness) {
	other := h.start(t, nil, "sleep", "60")
	defer other.stop(t)
	var found []string
	if h.start(t, nil, "disks").answer(t, &found); len(found) > 0 {
		t.Errorf("disks of others are seen in %d places: %q", len(found), found[:min(len(found), 10)])
	}
}
