// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"sync/atomic"
	"testing"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/jail"
	"thaw.dev/thaw/invoke/sandbox/oci"
	"thaw.dev/thaw/invoke/sandbox/sandboxtest"
)

var instances atomic.Int64

func open(t testing.TB, runtime string, pool int) sandbox.Launcher {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.RequireTool(t, runtime)
	l, err := oci.New(t.Context(), oci.Config{
		Instance: fmt.Sprintf("o%d-%d", os.Getpid(), instances.Add(1)), Runtime: runtime, Pool: pool, Init: sandboxtest.Init(t), Tmp: sandboxtest.Tmp(t),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCrun(t *testing.T) {
	sandboxtest.Run(t, func(t testing.TB) sandbox.Launcher { return open(t, "crun", 2) })
}

func TestRunc(t *testing.T) {
	sandboxtest.Run(t, func(t testing.TB) sandbox.Launcher { return open(t, "runc", 0) })
}

// TestLeak starts and stops containers.
func TestLeak(t *testing.T) {
	l := open(t, "crun", 2)
	sandboxtest.RunLeak(t, l, fmt.Sprintf("o%d-%d", os.Getpid(), instances.Load()), 20)
}

// TestSameAsJail compares what a function sees and may do in a jail and in a
// container of crun.
func TestSameAsJail(t *testing.T) {
	testkit.RequireRoot(t)
	inJail := func(t testing.TB) sandbox.Launcher {
		l, err := jail.New(t.Context(), jail.Config{Instance: fmt.Sprintf("d%d", os.Getpid()), Init: sandboxtest.Init(t), Tmp: sandboxtest.Tmp(t)})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	sandboxtest.Differ(t, inJail, func(t testing.TB) sandbox.Launcher { return open(t, "crun", 2) }, intended)
}

// intended are the differences between a jail and a container of crun.
var intended = []sandboxtest.Intended{
	{Fact: regexp.MustCompile(`^mount: /dev/(full|null|random|tty|urandom|zero) devtmpfs `),
		Reason: "a jail binds the host's devices, one by one; a container gets a folder with nodes of its own"},
	{Fact: regexp.MustCompile(`^mount: /proc/(bus|irq|sys) proc ro,`),
		Reason: "crun drops nosuid, nodev and noexec where it makes a path read-only, which procfs does not need"},
	{Fact: regexp.MustCompile(`^mount: /proc/(interrupts|keys|timer_list|kcore|latency_stats|sched_debug|timer_stats|diskstats|partitions) devtmpfs `),
		Reason: "a jail masks a file with its own null device, crun with a read-only bind of it"},
	{Fact: regexp.MustCompile(`^mount: /(proc/(acpi|scsi|asound|fs)|sys/(firmware|block|fs/(erofs|ext4)|class/(bdi|block)|dev/block|devices/virtual/(bdi|block|powercap))) tmpfs ro,`),
		Reason: "a jail masks a folder with one that is nosuid, nodev and noexec too"},
	{Fact: regexp.MustCompile(`^path /(proc/(acpi|scsi|fs)|sys/firmware|sys/devices/virtual/powercap): 0:0 4(0555|1777) read EISDIR$`),
		Reason: "both folders are empty and read-only; crun's has the default mode of a tmpfs"},
	{Fact: regexp.MustCompile(`^path /sys/fs/cgroup: (0:0|65534:65534) 40755 read EISDIR$`),
		Reason: "the folder of the groups is made for each jail, and is common to all containers, whose root it does not belong to"},
	{Fact: regexp.MustCompile(`^attempt write sysfs: (EROFS|EACCES)$`),
		Reason: "root's file in a read-only sysfs: which of two refusals comes first"},
}
