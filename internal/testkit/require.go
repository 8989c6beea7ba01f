// SPDX-License-Identifier: Apache-2.0

// Package testkit holds what tests of several packages share: the conditions a
// test needs of its machine, and small images and disks to test with.
package testkit

import (
	"os"
	"os/exec"
	"testing"
)

// StrictEnv names the environment variable that turns a missing condition from
// a skip into a failure. `make test` sets it, so that a run on a machine that
// could test everything can't pass by skipping.
const StrictEnv = "THAW_TEST_STRICT"

// RequireRoot ends the test unless it runs as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root: run the tests as root")
	}
}

// RequireTool ends the test unless each of the commands is on the PATH.
func RequireTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "needs the command "+name+": scripts/install-deps.sh installs it")
		}
	}
}

// RequireFUSE ends the test unless it may mount FUSE file systems.
func RequireFUSE(t testing.TB) {
	t.Helper()
	RequireRoot(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing(t, "needs /dev/fuse: load the kernel module fuse")
	}
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(StrictEnv) == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}
