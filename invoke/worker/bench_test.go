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
	"strings"
	"testing"
	"time"
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

// BenchmarkPool is what the pool takes of a warm invocation.
func BenchmarkPool(b *testing.B) {
	p, _ := testPool(nil)
	s, err := p.acquire(b.Context(), keyOf("f"), 1)
	if err != nil {
		b.Fatal(err)
	}
	p.begun(s)
	p.release(s)
	b.ReportAllocs()
	for b.Loop() {
		s, err := p.acquire(b.Context(), keyOf("f"), 1)
		if err != nil {
			b.Fatal(err)
		}
		_ = s.wake(time.Second)
		p.answered(s)
		p.release(s)
	}
}
