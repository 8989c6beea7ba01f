// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"thaw.dev/thaw/read/proc"
)

// daemonSignals makes a process of the server live through what would end a
// command: a terminal that closes (SIGHUP), a reader of its output that goes
// away (SIGPIPE), and SIGQUIT, which prints what every goroutine does. They are
// caught and not ignored, since what is ignored stays so in every program that
// is executed, functions included.
func daemonSignals(errors io.Writer) (stop func()) {
	caught := make(chan os.Signal, 4)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGQUIT)
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for s := range caught {
			if s == syscall.SIGQUIT {
				_, _ = errors.Write(stacks())
			}
		}
	}()
	return func() {
		signal.Stop(caught)
		close(caught)
		<-done
	}
}

// stacks is what every goroutine does, up to 16 MiB of it.
func stacks() []byte {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= 16<<20 {
			return b[:n]
		}
	}
}

// childSignals is [daemonSignals] for a process that the server started. It
// ends when the server does, or says so, not by the signals that a service
// manager or a terminal sends to all processes at once: the server's running
// invocations still need it.
func childSignals(ctx context.Context, std streams) (_ context.Context, stop func()) {
	if os.Getenv(proc.LifelineEnv) != "" {
		ctx = context.WithoutCancel(ctx)
	}
	// Executed as /proc/self/exe it would be called "exe".
	_ = os.WriteFile("/proc/self/comm", []byte("thaw"), 0)
	return ctx, daemonSignals(std.err)
}
