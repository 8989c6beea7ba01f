// SPDX-License-Identifier: Apache-2.0

package apart_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"thaw.dev/thaw/image/apart"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/tenant/keys"
)

// BenchmarkRun compares an image that is made apart with one that is made here: in
// time, and in processor time of both processes.
func BenchmarkRun(b *testing.B) {
	for _, size := range []int{1, 64} {
		tar := testkit.NewTar(b)
		for i := range size {
			tar.File(fmt.Sprint("f", i), ingesttest.Noise(uint64(i), 1<<20))
		}
		layer := ingesttest.Layer(testkit.PlainLayer(tar.Bytes()), false)
		k, err := keys.OpenLocal(filepath.Join(b.TempDir(), "keys"))
		if err != nil {
			b.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		a := apart.New(apart.Config{Command: []string{self, "ingest"}, Output: io.Discard, MemoryBytes: 1 << 30, Log: slog.New(slog.DiscardHandler)})
		b.Cleanup(func() { _ = a.Close(context.Background()) })
		for name, run := range map[string]func(context.Context, []ingest.Layer, string, ingest.Options) (ingest.Result, error){"here": ingest.Run, "apart": a.Run} {
			b.Run(fmt.Sprintf("%dMB/%s", size, name), func(b *testing.B) {
				before := processorTime(b)
				for b.Loop() {
					b.StopTimer()
					dir, err := store.OpenDir(b.TempDir())
					if err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					o := ingest.Options{Sink: dir, Objects: dir, Keys: k, SaltMaster: k.SaltMaster(), Tenant: tenant, Root: "r1", TempDir: b.TempDir()}
					if _, err := run(b.Context(), []ingest.Layer{layer}, "sha256:feed", o); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					_ = dir.Close()
					b.StartTimer()
				}
				b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1e6, "processor-ms/op")
			})
		}
	}
}

// processorTime is what this process and those that it started have used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}
