// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"context"
	"sync"
	"time"

	"thaw.dev/thaw/invoke/sandbox"
)

// refillPause is how long the pool waits after a jail was taken: making one
// takes about 20 ms of CPU, which the start that took the last one needs more.
const refillPause = 50 * time.Millisecond

// retryPause is how long the pool waits after it failed to make a jail.
const retryPause = time.Second

// pool keeps jails of one kind of network ahead.
type pool struct {
	kind  sandbox.Network
	size  int
	taken chan struct{} // of capacity 1: something was taken

	mu   sync.Mutex
	idle []*prepared
}

// take returns a waiting jail, or nil.
func (p *pool) take(kind sandbox.Network) *prepared {
	if kind != p.kind {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	jail := p.idle[0]
	p.idle = p.idle[1:]
	select {
	case p.taken <- struct{}{}:
	default:
	}
	return jail
}

// put adds a jail.
func (p *pool) put(jail *prepared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, jail)
}

func (p *pool) missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size - len(p.idle)
}

// drain empties the pool and returns what was in it.
func (p *pool) drain() []*prepared {
	p.mu.Lock()
	defer p.mu.Unlock()
	jails := p.idle
	p.idle = nil
	return jails
}

// fill keeps the pool full until ctx ends.
func (l *Launcher) fill(ctx context.Context) {
	for {
		pause := time.Duration(0)
		for l.pool.missing() > 0 && ctx.Err() == nil {
			jail, err := l.prepare(ctx, l.pool.kind)
			if err != nil {
				if ctx.Err() == nil {
					l.log.Error("jail: the pool can't be filled", "err", err)
				}
				pause = retryPause
				break
			}
			l.pool.put(jail)
		}
		if pause == 0 {
			select {
			case <-l.pool.taken:
				pause = refillPause
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
