// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/invoke/sandbox"
)

// taken is what the probe tells of what it got of one of the kernel's tables.
type taken struct {
	Count, Bytes int // what failed is not counted
	Error        string
}

// testSockets: what a function lets wait in sockets and pipes takes no more of
// the host than the function's memory and a quarter.
func testSockets(t *testing.T, h *harness) {
	const memory, bound = 128 << 20, 160 << 20
	for kind, count := range map[string]string{"tcp": "80", "udp": "40", "unix": "40", "datagrams": "40", "pipes": "400"} {
		t.Run(kind, func(t *testing.T) {
			b := h.start(t, func(s *sandbox.Spec) { s.MemoryBytes = memory }, "take", kind, count)
			if exit := b.wait(t); exit.OOMKills > 0 {
				return // it was the function's memory
			}
			var got taken
			if b.answer(t, &got); got.Bytes > bound {
				t.Errorf("%d MiB wait: %+v", got.Bytes>>20, got)
			}
		})
	}
}

// testNetlink: what waits at netlink sockets is nobody's memory, so a function
// has few of them, but enough, and always one for a moment.
func testNetlink(t *testing.T, h *harness) {
	const most = 16
	for _, kind := range []string{"netlink", "netlink user"} {
		var got taken
		h.start(t, nil, "take", kind, "100").answer(t, &got)
		if got.Error != "ENOBUFS" || got.Count > most || got.Count < most/2 {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	var got taken
	if h.start(t, nil, "take", "lists of interfaces", "50").answer(t, &got); got.Error != "ok" {
		t.Errorf("4,000 lists of interfaces, 8 at once: %+v", got)
	}
	b := h.start(t, nil, "take", "lists of interfaces", "1000000")
	for range 30 { // whatever waits for whom
		if err := b.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-b.Done():
		t.Errorf("it ended: %q %q", b.out, b.errs)
	default:
	}
}

// testAsynchronousIO: the host's events are not to be had in a sandbox.
func testAsynchronousIO(t *testing.T, h *harness) {
	var got taken
	if h.start(t, nil, "take", "aio", "1").answer(t, &got); got.Error != "ENOSYS" {
		t.Errorf("%+v", got)
	}
}

// testInotify: one sandbox takes all inotify instances that it gets, and another
// gets as many.
func testInotify(t *testing.T, h *harness) {
	greedy := h.start(t, nil, "take", "inotify", "1000", "hold")
	greedy.says(t, "EMFILE")
	var got taken
	h.start(t, nil, "take", "inotify", "100").answer(t, &got)
	if got.Error != "ok" {
		t.Errorf("beside one that has all it gets: %+v", got)
	}
}

// testPriority: a function does not have the priority of its server.
func testPriority(t *testing.T, open func(testing.TB) sandbox.Launcher) {
	before := niceOf(t, 0)
	setNice(t, min(19, before+3))
	t.Cleanup(func() { setNice(t, before) })
	h := newHarness(t, open)
	if v := h.look(t, nil); fmt.Sprint(v.Priority) != "[0 0 0]" {
		t.Errorf("nice value, policy and priority of I/O: %v", v.Priority)
	}
}

func niceOf(t *testing.T, tid int) int {
	t.Helper()
	n, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	if err != nil {
		t.Fatal(err)
	}
	return 20 - n
}

// setNice sets the nice value of all threads of this process.
func setNice(t *testing.T, nice int) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice) // it may have ended
	}
}
