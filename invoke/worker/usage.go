// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"time"

	"thaw.dev/thaw/internal/fair"
)

// Stats counts a worker's sandboxes.
type Stats struct {
	Sandboxes int   // alive or starting
	Idle      int   // of them
	Starting  int   // of them
	Waiting   int   // invocations without one
	Bytes     int64 // sum of their functions' memory sizes
}

func (p *pool) stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Sandboxes: int(p.all[slots]),
		Idle:      int(p.all[slots] - p.used[slots]),
		Starting:  int(p.used[starts]),
		Waiting:   int(p.used[places]),
		Bytes:     p.all[memory],
	}
}

// usages tells what tenants share. What is idle is not held, since it gives way.
// All waits are told of the sandboxes, whichever of their bounds they are for.
func (p *pool) usages() []fair.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	sandboxes := fair.Usage{Name: "sandboxes", Waiting: int(p.used[places]), Refused: p.tooLong, Waited: p.waited}
	bytes := fair.Usage{Name: "memory"}
	starting := fair.Usage{Name: "starts"}
	queue := fair.Usage{Name: "queue", Refused: p.tooMany}
	told := []fair.Usage{slots: sandboxes, memory: bytes, starts: starting, places: queue}
	for i := range told {
		told[i].Size, told[i].Held = p.size[i], p.used[i]
		for _, o := range p.owners {
			if o.used[i] > 0 {
				told[i].Owners++
			}
		}
	}
	for _, l := range p.lines {
		told[slots].LongestWaiter = max(told[slots].LongestWaiter, time.Since(l.first().since))
	}
	return told
}
