// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"testing"

	"thaw.dev/thaw/invoke/sandbox"
)

// Run runs the suite on launchers that open makes. open closes none: the suite
// does, and fails where Close does.
func Run(t *testing.T, open func(t testing.TB) sandbox.Launcher) {
	h := newHarness(t, open)
	for _, part := range []struct {
		name string
		test func(*testing.T, *harness)
	}{
		{"Output", testOutput}, {"ExitStatus", testExitStatus}, {"Faults", testFaults}, {"Hints", testHints}, {"LargeEnvironment", testLargeEnvironment},
		{"CommandOnPath", testCommandOnPath},
		{"BadSpecs", testBadSpecs}, {"Sees", testSees}, {"Asked", testAsked}, {"Owners", testOwners}, {"Denied", testDenied},
		{"OwnAPI", testOwnAPI}, {"HostUnreachable", testHostUnreachable}, {"Neighbours", testNeighbours},
		{"ReadOnlyRoot", testReadOnlyRoot}, {"Memory", testMemory}, {"MemoryPeak", testMemoryPeak}, {"Processes", testProcesses},
		{"TmpSize", testTmpSize}, {"TmpIsNoMemory", testTmpIsNoMemory}, {"TmpOfMany", testTmpOfMany}, {"TmpFreeze", testTmpFreeze}, {"TmpClean", testTmpClean},
		{"Freeze", testFreeze}, {"Drain", testDrain}, {"StopFrozen", testStopFrozen}, {"StopBomb", testStopBomb},
		{"StopResisting", testStopResisting}, {"StopTwice", testStopTwice}, {"Descendants", testDescendants}, {"StuckWriter", testStuckWriter},
		{"Together", testTogether}, {"Boost", testBoost}, {"Links", testLinks}, {"Machine", testMachine}, {"Sources", testSources}, {"Disks", testDisks},
		{"Sockets", testSockets}, {"Netlink", testNetlink}, {"AsynchronousIO", testAsynchronousIO}, {"Inotify", testInotify},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, h) })
	}
	t.Run("Priority", func(t *testing.T) { testPriority(t, open) })
	t.Run("Close", func(t *testing.T) { testClose(t, open) })
}

func newHarness(t testing.TB, open func(t testing.TB) sandbox.Launcher) *harness {
	t.Helper()
	h := &harness{root: Root(t)}
	h.launcher = open(t)
	t.Cleanup(func() {
		if err := h.launcher.Close(background(t)); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}
