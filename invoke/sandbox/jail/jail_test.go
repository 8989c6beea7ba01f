// SPDX-License-Identifier: Apache-2.0

package jail_test

import (
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/jail"
	"thaw.dev/thaw/invoke/sandbox/sandboxtest"
)

var instances atomic.Int64

// open opens a launcher whose instance no other test has.
func open(t testing.TB, pool int) *jail.Launcher {
	t.Helper()
	testkit.RequireRoot(t)
	l, err := jail.New(t.Context(), jail.Config{
		Instance: fmt.Sprintf("t%d-%d", os.Getpid(), instances.Add(1)), Pool: pool, Init: sandboxtest.Init(t), Tmp: sandboxtest.Tmp(t),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPooled(t *testing.T) {
	sandboxtest.Run(t, func(t testing.TB) sandbox.Launcher {
		l := open(t, 4)
		if err := l.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		return l
	})
}

func TestFresh(t *testing.T) {
	sandboxtest.Run(t, func(t testing.TB) sandbox.Launcher { return open(t, 0) })
}

// TestLeak starts and stops 200 sandboxes.
func TestLeak(t *testing.T) {
	for _, pool := range []int{0, 3} {
		t.Run(fmt.Sprintf("pool of %d", pool), func(t *testing.T) {
			l := open(t, pool)
			sandboxtest.RunLeak(t, l, fmt.Sprintf("t%d-%d", os.Getpid(), instances.Load()), 100)
		})
	}
}
