// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/control/controltest"
)

// openWith is newWorld with other options.
func openWith(t *testing.T, change func(*control.Options)) *world {
	t.Helper()
	w := &world{images: controltest.NewImages(), path: filepath.Join(t.TempDir(), "x.db"), change: change}
	w.open(t)
	return w
}

// waitPrepared waits until the image of a function was begun to be prepared n times.
func (w *world) waitPrepared(t *testing.T, f *control.Function, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); w.images.Prepared(f.Next.Digest) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s was begun %d times, not %d", f.Name, w.images.Prepared(f.Next.Digest), n)
		}
	}
}

// TestDiedThrice: an image that kills the process which prepares it is tried
// three times, in all, and its function says why it failed. Another image of the
// function has its own tries.
func TestDiedThrice(t *testing.T) {
	w := newWorld(t)
	w.images.Push(alice, "poison", controltest.Image{Content: "poison", Fails: thaw.Errorf("ingest", thaw.Internal, "%w: signal: killed", control.ErrDied)})
	f, err := w.Create(t.Context(), alice, control.NewFunction{Name: "f", ImageURI: "poison", Change: control.Change{Role: ptr(role)}})
	if err != nil {
		t.Fatal(err)
	}
	got := w.settled(t, alice, "f")
	if n := w.images.Prepared(f.Next.Digest); n != 3 || got.State != control.Failed || got.ReasonCode != control.ReasonInternalError ||
		!strings.Contains(got.Reason, "ended 3 times with its process") || !strings.Contains(got.Reason, "signal: killed") {
		t.Errorf("begun %d times, then %s: %s: %s", n, got.State, got.ReasonCode, got.Reason)
	}
	w.images.Push(alice, "good", controltest.Image{Content: "good"})
	if _, err := w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "good"}); err != nil {
		t.Fatal(err)
	}
	if got := w.settled(t, alice, "f"); got.State != control.Active {
		t.Errorf("the next image: %s: %s", got.State, got.Reason)
	}
}

// crash goes on with the database as it is now, as after the death of the server,
// whose preparations never end.
func (w *world) crash(t *testing.T) *world {
	t.Helper()
	next := &world{images: w.images, path: filepath.Join(t.TempDir(), "x.db")}
	for _, end := range []string{"", "-wal"} {
		data, err := os.ReadFile(w.path + end)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(next.path+end, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next.open(t)
	return next
}

// TestTriesAreCountedBeforehand: a preparation that ends three times with the
// server is not begun a fourth time.
func TestTriesAreCountedBeforehand(t *testing.T) {
	w := newWorld(t)
	defer w.images.Hold()()
	f := w.create(t, alice, "f")
	for try := 1; try <= 3; try++ {
		w.waitPrepared(t, f, try)
		if got, _, err := w.Get(t.Context(), alice, "f", ""); err != nil || got.Next == nil || got.Next.Died != try {
			t.Fatalf("try %d: %+v, %v", try, got.Next, err)
		}
		w = w.crash(t)
	}
	got := w.settled(t, alice, "f")
	if n := w.images.Prepared(f.Next.Digest); n != 3 || got.State != control.Failed || !strings.Contains(got.Reason, "ended 3 times with its process") {
		t.Errorf("begun %d times, then %s: %s", n, got.State, got.Reason)
	}
}

// TestStopsDoNotCount: a server that is stopped, and not killed, has not failed
// with what it was preparing.
func TestStopsDoNotCount(t *testing.T) {
	w := newWorld(t)
	release := w.images.Hold()
	f := w.create(t, alice, "f")
	for try := 1; try <= 5; try++ {
		w.waitPrepared(t, f, try)
		w.closeAll()
		w.open(t)
	}
	release()
	if got := w.settled(t, alice, "f"); got.State != control.Active {
		t.Errorf("after five stops: %s: %s", got.State, got.Reason)
	}
}

// TestTurns: a preparation that goes on for long gives way to another tenant's,
// and is made when that has had its turn.
func TestTurns(t *testing.T) {
	w := openWith(t, func(o *control.Options) { o.Prepares, o.Turn = 1, 10*time.Millisecond })
	release := w.images.Hold()
	f := w.create(t, alice, "long")
	w.waitPrepared(t, f, 1)
	w.images.Hold()() // what is begun from now on does not wait
	w.create(t, bob, "short")
	if got := w.settled(t, bob, "short"); got.State != control.Active {
		t.Errorf("bob's: %s: %s", got.State, got.Reason)
	}
	if got := w.settled(t, alice, "long"); got.State != control.Active || w.images.Prepared(f.Next.Digest) != 2 {
		t.Errorf("alice's: %s: %s, begun %d times", got.State, got.Reason, w.images.Prepared(f.Next.Digest))
	}
	release()
}

// TestDeadline: a preparation ends when it has had its time, in which what this
// host made it wait for does not count.
func TestDeadline(t *testing.T) {
	w := openWith(t, func(o *control.Options) { o.PrepareTime = 500 * time.Millisecond })
	release := w.images.Hold()
	for _, name := range []string{"host", "registry"} {
		w.images.Push(alice, name, controltest.Image{Content: name, Waits: name == "host"})
		if _, err := w.Create(t.Context(), alice, control.NewFunction{Name: name, ImageURI: name, Change: control.Change{Role: ptr(role)}}); err != nil {
			t.Fatal(err)
		}
	}
	got := w.settled(t, alice, "registry")
	if got.State != control.Failed || !strings.Contains(got.Reason, "not ready after 500ms") {
		t.Errorf("%s: %s", got.State, got.Reason)
	}
	if got, _, err := w.Get(t.Context(), alice, "host", ""); err != nil || got.State != control.Pending {
		t.Errorf("what waits for the host: %s: %s, %v", got.State, got.Reason, err)
	}
	release()
	if got := w.settled(t, alice, "host"); got.State != control.Active {
		t.Errorf("what waited for the host: %s: %s", got.State, got.Reason)
	}
}

// TestOneTenantKeepsNobodyOut: however many images a tenant has prepared, another's
// is begun at once.
func TestOneTenantKeepsNobodyOut(t *testing.T) {
	w := newWorld(t)
	defer w.images.Hold()()
	for i := range 20 {
		w.create(t, alice, fmt.Sprint("f", i))
	}
	w.waitPrepared(t, w.create(t, bob, "g"), 1)
}

// TestSilentRegistriesKeepNobodyOut: a tenant whose references lead to registries
// that do not answer takes all requests that one may, and another's is answered.
func TestSilentRegistriesKeepNobodyOut(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	create := func(i int) {
		name := fmt.Sprint("f", i)
		asking.Go(func() {
			_, _ = w.Create(ctx, alice, control.NewFunction{Name: name, ImageURI: name, Change: control.Change{Role: ptr(role)}})
		})
	}
	held := 0
	for ; w.Pools()[1].Usage().Waiting == 0; held++ {
		asked := w.images.Silence(alice, fmt.Sprint("f", held))
		create(held)
		for done := false; !done && w.Pools()[1].Usage().Waiting == 0; {
			select {
			case <-asked:
				done = true
			case <-time.After(time.Millisecond):
			}
		}
	}
	if held < 2 || held > 60 {
		t.Errorf("one tenant has %d references resolved at once", held)
	}
	w.create(t, bob, "g")
}
