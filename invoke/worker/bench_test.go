// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"thaw.dev/thaw"
)

// BenchmarkWarm compares a warm invocation with a bare HTTP request to the same
// handler in the same binary. The difference is what the worker adds.
func BenchmarkWarm(b *testing.B) {
	payload := ask{Text: "hello"}.payload(b)
	b.Run("bare", func(b *testing.B) {
		cmd := exec.Command(goFunction(b).Entrypoint[0])
		cmd.Env = append(os.Environ(), "BARE=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		url := "http://" + strings.TrimSpace(addr)
		measure(b, func() {
			r, err := http.Post(url, "application/json", bytes.NewReader(payload))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		})
	})
	invoke := func(b *testing.B, tail bool) {
		w := newWorld(b, nil)
		f := goFunction(b)
		w.do(f, ask{})
		measure(b, func() {
			if _, err := w.Invoke(b.Context(), f, Request{Payload: payload, LogTail: tail}); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.Run("invoke", func(b *testing.B) { invoke(b, false) })
	b.Run("invoke-tail", func(b *testing.B) { invoke(b, true) })
}

func measure(b *testing.B, once func()) { measureWith(b, func() {}, once) }

// measureWith reports the median and the 99th percentile of once, without what
// is done between.
func measureWith(b *testing.B, between, once func()) {
	for range 20 {
		once()
	}
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		between()
		begin := time.Now()
		once()
		took = append(took, time.Since(begin))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkPool is what the pool takes of a warm invocation: alone, and while a
// thousand of others wait for starts.
func BenchmarkPool(b *testing.B) {
	for name, crowd := range map[string]int{"alone": 0, "crowd": 1000} {
		b.Run(name, func(b *testing.B) {
			p, _ := testPool(func(c *Config) { c.MaxSandboxes, c.MaxStarts, c.MaxQueue, c.QueueWait = 101, 101, 1000, time.Hour })
			s, err := p.acquire(b.Context(), keyOf("f"), 1)
			if err != nil {
				b.Fatal(err)
			}
			p.begun(s)
			var group sync.WaitGroup
			for i := range crowd {
				k := key{thaw.TenantID(strconv.Itoa(i % 10)), strconv.Itoa(i % 100), "1", ""}
				group.Go(func() { _, _ = p.acquire(b.Context(), k, 1) })
			}
			for p.stats().Waiting+p.stats().Starting < crowd {
				time.Sleep(time.Millisecond)
			}
			b.ReportAllocs()
			for b.Loop() {
				p.answered(s)
				p.release(s)
				s, err = p.acquire(b.Context(), keyOf("f"), 1)
				if err != nil {
					b.Fatal(err)
				}
				_ = s.wake(time.Second)
			}
			b.StopTimer()
			p.close()
			group.Wait()
		})
	}
}
