// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"sync"
	"sync/atomic"
	"time"
)

// reportEvery is how often progress is reported: smooth to the eye, and nothing
// next to the work.
const reportEvery = 100 * time.Millisecond

// counters are the numbers of a [Progress]; they only grow. Safe for concurrent
// use.
type counters struct {
	read, total         atomic.Int64
	fresh, shared, zero atomic.Int64
	freshBytes          atomic.Int64
}

func (c *counters) progress() Progress {
	p := Progress{
		NewChunks:    int(c.fresh.Load()),
		SharedChunks: int(c.shared.Load()),
		ZeroChunks:   int(c.zero.Load()),
		NewBytes:     c.freshBytes.Load(),
		ReadBytes:    c.read.Load(),
	}
	p.TotalBytes = max(c.total.Load(), p.ReadBytes) // the size of a layer may be unknown
	p.Chunks = p.NewChunks + p.SharedChunks + p.ZeroChunks
	return p
}

// report calls to at intervals until the function it returns is called, and
// then once more if last is true.
func (c *counters) report(to func(Progress)) (stop func(last bool)) {
	if to == nil {
		return func(bool) {}
	}
	ticker := time.NewTicker(reportEvery)
	done := make(chan struct{})
	var task sync.WaitGroup
	task.Go(func() {
		for {
			select {
			case <-ticker.C:
				to(c.progress())
			case <-done:
				return
			}
		}
	})
	return func(last bool) {
		ticker.Stop()
		close(done)
		task.Wait()
		if last {
			to(c.progress())
		}
	}
}
