// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"thaw.dev/thaw"
)

// losing is a Rootfs whose roots get lost.
type losing struct {
	*world
	unsound atomic.Bool // what asks finds the root lost, though nobody was told

	mu   sync.Mutex
	lost chan struct{} // of the roots that are attached from now on
	bad  int           // so many roots are lost while they are attached
}

func (l *losing) Attach(ctx context.Context, s Start) (Root, error) {
	root, err := l.world.Attach(ctx, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := l.lost
	if l.bad > 0 {
		l.bad--
		lost = make(chan struct{})
		close(lost)
	}
	root.Lost, root.Sound = lost, func(context.Context) bool { return !l.unsound.Load() }
	return root, err
}

// strike loses the roots that there are.
func (l *losing) strike() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.lost)
	l.lost = make(chan struct{})
}

func newLosing(t *testing.T) *losing {
	l := &losing{lost: make(chan struct{})}
	l.world = newWorld(t, func(c *Config) { c.Rootfs = l })
	return l
}

func (l *losing) ask(f Function, a ask) (*Result, error) {
	return l.Invoke(context.Background(), f, Request{Payload: a.payload(l.t)})
}

// TestLostIdle: an idle sandbox whose root is lost is stopped, and the next
// invocation gets another.
func TestLostIdle(t *testing.T) {
	l, f := newLosing(t), goFunction(t)
	if _, err := l.ask(f, ask{}); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return l.Stats().Idle == 1 })
	l.strike()
	waitUntil(t, func() bool { return l.Stats() == Stats{} })
	if res, err := l.ask(f, ask{}); err != nil || !res.ColdStart {
		t.Fatalf("%+v, %v", res, err)
	}
}

// TestLostInFlight: an invocation that runs when its root is lost ends as the
// host's trouble, whether the loss is told before or found after the function
// has failed of it.
func TestLostInFlight(t *testing.T) {
	for name, c := range map[string]struct {
		ask    ask
		strike func(*losing)
	}{
		"told":           {ask{Do: "hang"}, (*losing).strike},
		"found by error": {ask{Do: "error", Millis: 300}, func(l *losing) { l.unsound.Store(true) }},
		"found by exit":  {ask{Do: "exit", Code: 1, Millis: 300}, func(l *losing) { l.unsound.Store(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, f := newLosing(t), goFunction(t)
			if _, err := l.ask(f, ask{}); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(100*time.Millisecond, func() { c.strike(l) })
			res, err := l.ask(f, c.ask)
			if !errors.Is(err, errLost) || thaw.KindOf(err) != thaw.Unavailable {
				t.Fatalf("%+v, %v", res, err)
			}
			l.unsound.Store(false)
			if res, err := l.ask(f, ask{}); err != nil || !res.ColdStart || res.FunctionError != "" {
				t.Fatalf("afterwards: %+v, %v", res, err)
			}
		})
	}
}

// TestLostAtStart: a start whose root is lost begins anew, as long as the
// function has not seen the invocation.
func TestLostAtStart(t *testing.T) {
	l, f := newLosing(t), goFunction(t)
	l.bad = maxLost - 1
	if res, err := l.ask(f, ask{Text: "well"}); err != nil || res.FunctionError != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	if n := l.attached.Load(); n != maxLost {
		t.Errorf("%d roots attached", n)
	}
}

func waitUntil(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come true")
		}
	}
}
