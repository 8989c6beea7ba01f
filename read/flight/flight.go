// SPDX-License-Identifier: Apache-2.0

// Package flight makes one fill out of many concurrent requests for the same
// key. It knows nothing of what is filled.
//
// What it promises, for each key:
//   - At most one fill runs at a time, in the goroutine and under the context
//     of one caller. A success is given to every caller that waits.
//   - A waiter keeps its own context: it leaves when that ends, whatever the
//     others do, and a filler whose context ends takes nobody along.
//   - A failed fill is the failure of its caller only; the turn to fill goes to
//     one waiter, so that a thousand waiters never become a thousand fills at
//     once. Failures which another turn can't better are given to all.
//   - A fill that panics releases all waiters with an error; the panic goes on
//     in its caller.
//
// The accepted risk: a caller with little time left may take a turn and waste
// it. The design follows the read shards of cockroachdb/pebble.
package flight

import (
	"context"
	"sync"

	"thaw.dev/thaw"
)

// Group is a set of keys being filled. Use [New]. It is safe for concurrent
// use.
type Group[K comparable, V any] struct {
	final func(error) bool

	mu    sync.Mutex
	calls map[K]*call[V]
}

// call is the fill of one key.
//
// INVARIANT: the token is in turn, or with exactly one caller (the filler), or
// the call is settled. A call is in the map until it is settled or has nobody.
type call[V any] struct {
	turn    chan struct{} // holds the token: the right to fill
	settled chan struct{} // closed once val and err are final
	val     V
	err     error
	callers int // guarded by Group.mu: who waits or fills
}

// New returns an empty group. An error of which final reports true is given to
// all waiters at once, since the next turn would only fail the same way; a nil
// final means that no error is of that kind.
func New[K comparable, V any](final func(error) bool) *Group[K, V] {
	if final == nil {
		final = func(error) bool { return false }
	}
	return &Group[K, V]{final: final, calls: map[K]*call[V]{}}
}

// Do returns what fill returns for key: from its own call of fill, or, with
// shared true, from another caller's. The error is fill's, or [thaw.Canceled]
// or [thaw.Unavailable] where ctx ended first, or [thaw.Internal] where another
// caller's fill panicked.
func (g *Group[K, V]) Do(ctx context.Context, key K, fill func(context.Context) (V, error)) (val V, shared bool, err error) {
	c := g.join(key)
	select {
	case <-c.settled:
		return c.val, true, c.err
	case <-c.turn:
		val, err = g.fill(ctx, key, c, fill)
		return val, false, err
	case <-ctx.Done():
		g.leave(key, c)
		return val, true, thaw.Wrap("wait for another reader", context.Cause(ctx))
	}
}

func (g *Group[K, V]) fill(ctx context.Context, key K, c *call[V], fill func(context.Context) (V, error)) (V, error) {
	returned := false
	defer func() {
		if !returned {
			var none V
			g.settle(key, c, none, thaw.Errorf("fill", thaw.Internal, "the reader that was to fill it panicked"))
		}
	}()
	val, err := fill(ctx)
	returned = true
	if err == nil || g.final(err) {
		g.settle(key, c, val, err)
	} else {
		g.passOn(key, c)
	}
	return val, err
}

func (g *Group[K, V]) join(key K) *call[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.calls[key]
	if c == nil {
		c = &call[V]{turn: make(chan struct{}, 1), settled: make(chan struct{})}
		c.turn <- struct{}{}
		g.calls[key] = c
	}
	c.callers++
	return c
}

func (g *Group[K, V]) leave(key K, c *call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(key, c)
}

func (g *Group[K, V]) leaveLocked(key K, c *call[V]) {
	c.callers--
	if c.callers == 0 && g.calls[key] == c {
		delete(g.calls, key)
	}
}

// passOn gives the turn to whoever waits. The token does not name a waiter, so
// one that leaves at this moment loses it for nobody.
func (g *Group[K, V]) passOn(key K, c *call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(key, c)
	c.turn <- struct{}{}
}

func (g *Group[K, V]) settle(key K, c *call[V], val V, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[key] == c {
		delete(g.calls, key)
	}
	c.val, c.err = val, err
	close(c.settled)
}
