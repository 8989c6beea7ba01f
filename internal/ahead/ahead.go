// SPDX-License-Identifier: Apache-2.0

// Package ahead keeps things made before they are wanted, where making one takes
// longer than who wants it should wait.
package ahead

import (
	"context"
	"sync"
	"time"
)

// Options says what a pool keeps. All are required.
type Options[T any] struct {
	Size int // things that wait; 0 keeps none
	Make func(context.Context) (T, error)

	// Failed is told of errors of Make, which is tried again after Retry, until
	// it returns true; then of none before Make has succeeded.
	Failed func(error) (told bool)
	Retry  time.Duration

	// Pause is how long after one was taken the next is made: whoever took it
	// needs the processor more.
	Pause time.Duration
}

// Pool keeps things ahead. Its methods may be called concurrently.
type Pool[T any] struct {
	options Options[T]
	taken   chan struct{} // of capacity 1: something was taken
	cancel  context.CancelFunc
	filling sync.WaitGroup

	mu   sync.Mutex // guards what follows
	idle []T        // the oldest first
}

// New returns a pool and begins to fill it. The caller ends it with Close.
func New[T any](o Options[T]) *Pool[T] {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool[T]{options: o, taken: make(chan struct{}, 1), cancel: cancel}
	p.filling.Go(func() { p.fill(ctx) })
	return p
}

// Take returns the thing that has waited longest, which is the caller's then. ok
// is false where none waits.
func (p *Pool[T]) Take() (thing T, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return thing, false
	}
	thing = p.idle[0]
	p.idle = p.idle[1:]
	select {
	case p.taken <- struct{}{}:
	default:
	}
	return thing, true
}

// Ready returns once the pool is full, or with the error of ctx.
func (p *Pool[T]) Ready(ctx context.Context) error {
	for p.missing() > 0 {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close ends the making and returns what waits, which is the caller's then.
func (p *Pool[T]) Close() []T {
	p.cancel()
	p.filling.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.idle
	p.idle = nil
	return left
}

func (p *Pool[T]) missing() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.options.Size - len(p.idle)
}

func (p *Pool[T]) put(thing T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, thing)
}

// fill keeps the pool full until ctx ends.
func (p *Pool[T]) fill(ctx context.Context) {
	for told := false; ; {
		pause, failed := p.options.Pause, false
		for p.missing() > 0 && ctx.Err() == nil {
			thing, err := p.options.Make(ctx)
			if err != nil {
				if ctx.Err() == nil && !told {
					told = p.options.Failed(err)
				}
				pause, failed = p.options.Retry, true
				break
			}
			told = false
			p.put(thing)
		}
		if !failed {
			select {
			case <-p.taken:
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
