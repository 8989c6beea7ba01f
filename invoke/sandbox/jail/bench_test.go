package jail_test

import (
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/sandboxtest"
)

// The benchmarks compare, in one run, what a start costs up to the point where
// the command was executed (exec-ms, Start's duration) and up to its end.
// chroot is the floor: fork, chroot and exec of the same program.

func BenchmarkStart(b *testing.B) {
	root := sandboxtest.Root(b)
	for _, kind := range []struct {
		name string
		pool int
	}{{"pooled", 8}, {"fresh", 0}} {
		b.Run(kind.name, func(b *testing.B) {
			l := open(b, kind.pool)
			defer func() { _ = l.Close(b.Context()) }()
			starts := make([]time.Duration, 0, b.N)
			for b.Loop() {
				b.StopTimer()
				if err := l.Ready(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				begin := time.Now()
				s, err := l.Start(b.Context(), sandbox.Spec{ID: "bench", Root: root, Args: []string{"/probe", "exit", "0"}, MemoryBytes: 256 << 20})
				if err != nil {
					b.Fatal(err)
				}
				starts = append(starts, time.Since(begin))
				<-s.Done()
				b.StopTimer()
				if err := s.Stop(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			report(b, starts)
		})
	}
	b.Run("chroot", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command("/probe", "exit", "0")
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFreezeThaw measures what a warm invocation pays for being thawed.
func BenchmarkFreezeThaw(b *testing.B) {
	root := sandboxtest.Root(b)
	l := open(b, 1)
	defer func() { _ = l.Close(b.Context()) }()
	s, err := l.Start(b.Context(), sandbox.Spec{ID: "bench", Root: root, Args: []string{"/probe", "sleep"}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Stop(b.Context()) }()
	var thaws []time.Duration
	for b.Loop() {
		if err := s.Freeze(b.Context()); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if err := s.Thaw(b.Context()); err != nil {
			b.Fatal(err)
		}
		thaws = append(thaws, time.Since(begin))
	}
	report(b, thaws)
}

// report adds the median and the 95th percentile, in milliseconds.
func report(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	ms := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))].Microseconds()) / 1000 }
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.95), "p95-ms")
	b.ReportMetric(ms(0), "min-ms")
}
