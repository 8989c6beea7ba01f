// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw.dev/thaw"
)

// TestSequentialReuse: a caller that comes again at once meets the same sandbox,
// although that has not asked for an invocation yet.
func TestSequentialReuse(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.FinishWait = 5 * time.Second })
	f := goFunction(t)
	for range 300 {
		if _, err := w.Invoke(t.Context(), f, Request{Payload: ask{}.payload(t)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.launcher.boxes); n != 1 {
		t.Fatalf("%d sandboxes for one caller", n)
	}
}

// TestConcurrency: fifty callers share ten sandboxes, one at a time each.
func TestConcurrency(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxSandboxes, c.MaxStarts, c.QueueWait = 10, 4, time.Minute })
	f := goFunction(t)
	var all sync.WaitGroup
	var answered atomic.Int32
	for i := range 50 {
		all.Go(func() {
			for range 4 {
				res, err := w.Invoke(t.Context(), f, Request{Payload: ask{Text: itoa(i), Millis: 5, Do: "print"}.payload(t)})
				if err != nil {
					t.Error(err)
					return
				}
				if !strings.Contains(string(res.Payload), `"Text":"`+itoa(i)+`"`) {
					t.Errorf("caller %d got %s", i, res.Payload)
				}
				answered.Add(1)
			}
		})
	}
	all.Wait()
	if answered.Load() != 200 || w.launcher.most > 10 {
		t.Fatalf("%d answers, %d sandboxes at once", answered.Load(), w.launcher.most)
	}
}

func TestThrottled(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxSandboxes, c.MaxQueue, c.QueueWait = 1, 1, 100*time.Millisecond })
	f := goFunction(t)
	busy := make(chan error, 1)
	go func() {
		_, err := w.Invoke(context.Background(), f, Request{Payload: ask{Millis: 1000}.payload(t)})
		busy <- err
	}()
	until(t, "one runs", func() bool { return w.Stats().Sandboxes == 1 })
	waited := make(chan error, 1)
	go func() {
		_, err := w.Invoke(context.Background(), f, Request{})
		waited <- err
	}()
	until(t, "one waits", func() bool { return w.Stats().Waiting == 1 })
	if _, err := w.Invoke(t.Context(), f, Request{}); thaw.KindOf(err) != thaw.Throttled {
		t.Fatalf("beyond the queue: %v", err)
	}
	if err := <-waited; thaw.KindOf(err) != thaw.Throttled {
		t.Fatalf("after the wait: %v", err)
	}
	if err := <-busy; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Invoke(ctx, f, Request{}); err != nil && thaw.KindOf(err) != thaw.Canceled {
		t.Fatalf("of a caller that is gone: %v", err)
	}
}

// TestFreezeAndThaw: the sandbox really stops between invocations, and is
// thawed before the next.
func TestFreezeAndThaw(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.FreezeAfter = time.Millisecond })
	f := goFunction(t)
	for range 3 {
		w.do(f, ask{})
		until(t, "it is frozen", func() bool { return w.launcher.boxes[0].stopped(t) })
	}
	if calls := w.launcher.noted(); calls != "start endboost freeze thaw freeze thaw freeze" {
		t.Fatal(calls)
	}
}

// TestBusySandboxIsNotFrozen: a sandbox in steady use never meets the freezer.
func TestBusySandboxIsNotFrozen(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.FreezeAfter = time.Minute })
	f := goFunction(t)
	for range 50 {
		w.do(f, ask{})
	}
	if calls := w.launcher.noted(); calls != "start endboost" {
		t.Fatal(calls)
	}
}

func TestReaping(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.IdleTimeout, c.FreezeAfter = 100*time.Millisecond, 10*time.Millisecond })
	w.do(goFunction(t), ask{})
	until(t, "it is reaped", func() bool { return w.Stats().Sandboxes == 0 && w.released.Load() == 1 })
	if calls := w.launcher.noted(); calls != "start endboost freeze stop" {
		t.Fatal(calls)
	}
}

// TestEviction: where memory is wanted, the longest idle go first, and as many
// as it takes.
func TestEviction(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MemoryBytes = 384 << 20 })
	named := func(name string, mb int) Function {
		f := goFunction(t)
		f.Name, f.MemoryMB = name, mb
		return f
	}
	w.do(named("a", 128), ask{})
	w.do(named("b", 128), ask{})
	w.do(named("c", 128), ask{})
	w.do(named("a", 128), ask{}) // now b is the longest idle, then c
	w.do(named("d", 256), ask{})
	if res, _ := w.do(named("a", 128), ask{}); res.ColdStart {
		t.Fatal("a was evicted")
	}
	if s := w.Stats(); s.Sandboxes != 2 || s.Bytes != 384<<20 {
		t.Fatalf("%+v", s)
	}
	if _, err := w.Invoke(t.Context(), named("e", 512), Request{}); thaw.KindOf(err) != thaw.Throttled {
		t.Fatalf("larger than the worker: %v", err)
	}
	if s := w.Stats(); s.Sandboxes != 2 {
		t.Fatalf("evicted for nothing: %+v", s)
	}
}

// TestIdleSandboxDies: it is noticed without an invocation.
func TestIdleSandboxDies(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.FreezeAfter = time.Minute }) // or it might be frozen before it exits
	f := goFunction(t)
	w.do(f, ask{Do: "late exit"})
	until(t, "it is gone", func() bool { return w.Stats().Sandboxes == 0 && w.released.Load() == 1 })
}

func TestRetire(t *testing.T) {
	w := newWorld(t, nil)
	f, other := goFunction(t), goFunction(t)
	other.Name = "other"
	w.do(f, ask{})
	w.do(other, ask{})
	busy := make(chan *Result, 1)
	go func() {
		res, err := w.Invoke(context.Background(), f, Request{Payload: ask{Millis: 500, Text: "kept"}.payload(t)})
		if err != nil {
			t.Error(err)
		}
		busy <- res
	}()
	until(t, "one is busy", func() bool { return w.Stats().Idle == 1 })
	w.Retire(f.Tenant, f.Name)
	if res := <-busy; res == nil || !strings.Contains(string(res.Payload), "kept") {
		t.Fatal("the busy sandbox did not serve to its end")
	}
	until(t, "it is stopped", func() bool { return w.Stats().Sandboxes == 1 && w.released.Load() == 1 })
	if res, _ := w.do(other, ask{}); res.ColdStart {
		t.Fatal("another function's sandbox was retired")
	}
	w.Retire(other.Tenant, other.Name)
	until(t, "idle ones are stopped", func() bool { return w.Stats().Sandboxes == 0 })
}

// TestRetireWhileStarting: a sandbox that was started before serves its one
// invocation and no other.
func TestRetireWhileStarting(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	answered := make(chan error, 1)
	go func() {
		_, err := w.Invoke(context.Background(), f, Request{Payload: ask{}.payload(t)})
		answered <- err
	}()
	until(t, "it starts", func() bool { return w.Stats().Sandboxes == 1 })
	w.Retire(f.Tenant, f.Name)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	until(t, "it is stopped", func() bool { return w.Stats().Sandboxes == 0 })
}

// TestRevision: a changed function is not served by what ran before.
func TestRevision(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	w.do(f, ask{})
	f.Revision = "2"
	if res, _ := w.do(f, ask{}); !res.ColdStart {
		t.Fatal("the old revision served")
	}
}

func TestCloseWaits(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	w.do(f, ask{})
	answered := make(chan error, 1)
	go func() {
		_, err := w.Invoke(context.Background(), f, Request{Payload: ask{Millis: 300}.payload(t)})
		answered <- err
	}()
	until(t, "it runs", func() bool { return w.Stats().Idle == 0 })
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatalf("the running invocation: %v", err)
	}
	if _, err := w.Invoke(t.Context(), f, Request{}); thaw.KindOf(err) != thaw.Unavailable {
		t.Fatalf("after Close: %v", err)
	}
}

func TestCloseKills(t *testing.T) {
	for name, change := range map[string]func(*Function){
		"in flight": func(*Function) {},
		"at init":   func(f *Function) { f.Env = map[string]string{"INIT_SLOW": "1"} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.MaxSandboxes, c.QueueWait = 1, time.Minute })
			f := goFunction(t)
			change(&f)
			running, waiting := make(chan error, 1), make(chan error, 1)
			invoke := func(out chan error) {
				_, err := w.Invoke(context.Background(), f, Request{Payload: ask{Do: "hang"}.payload(t)})
				out <- err
			}
			go invoke(running)
			until(t, "it runs", func() bool { return w.Stats().Sandboxes == 1 })
			go invoke(waiting)
			until(t, "another waits", func() bool { return w.Stats().Waiting == 1 })
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if err := w.Close(ctx); err != nil {
				t.Fatal(err)
			}
			for _, ch := range []chan error{running, waiting} {
				if err := <-ch; thaw.KindOf(err) != thaw.Unavailable {
					t.Fatal(err)
				}
			}
		})
	}
}
