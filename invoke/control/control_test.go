// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/sqlitedb"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/control/controltest"
)

const (
	alice = thaw.TenantID("111111111111")
	bob   = thaw.TenantID("222222222222")
	role  = "arn:aws:iam::111111111111:role/any"
)

func ptr[T any](v T) *T { return &v }

// world is a control plane with its surroundings.
type world struct {
	*control.Control
	images *controltest.Images
	path   string
	change func(*control.Options) // for the next open; nil changes nothing
	log    bytes.Buffer           // read it after closeAll

	functions, imageBytes int64 // the bounds, from the next open on

	closeAll func() // ends Control and its database

	mu      sync.Mutex
	retired []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{images: controltest.NewImages(), path: filepath.Join(t.TempDir(), "x.db")}
	w.open(t)
	return w
}

// open starts a control plane on the world's database, as a new process would.
func (w *world) open(t *testing.T) {
	t.Helper()
	db, err := sqlitedb.Open(t.Context(), w.path)
	if err != nil {
		t.Fatal(err)
	}
	o := control.Options{DB: db, Images: w.images, Architecture: "x86_64", Functions: w.functions, ImageBytes: w.imageBytes,
		RetryDelay: time.Millisecond, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Retire: func(_ context.Context, tenant thaw.TenantID, name string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.retired = append(w.retired, string(tenant)+"/"+name)
		}}
	if w.change != nil {
		w.change(&o)
	}
	c, err := control.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w.Control = c
	w.closeAll = sync.OnceFunc(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	t.Cleanup(w.closeAll)
}

func (w *world) create(t *testing.T, tenant thaw.TenantID, name string) *control.Function {
	t.Helper()
	w.images.Push(tenant, "reg/"+name+":1", controltest.Image{Content: "one " + name, Command: []string{"run"}, Env: []string{"A=1"}, Dir: "/app"})
	f, err := w.Create(t.Context(), tenant, control.NewFunction{Name: name, ImageURI: "reg/" + name + ":1",
		Change: control.Change{Role: ptr(role)}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// settled waits until no preparation for the function is under way.
func (w *world) settled(t *testing.T, tenant thaw.TenantID, name string) *control.Function {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		f, _, err := w.Get(t.Context(), tenant, name, "")
		if err != nil {
			t.Fatal(err)
		}
		if f.Next == nil {
			return f
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still being prepared", name)
		}
	}
}

func (w *world) waitRetired(t *testing.T, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		got := slices.Clone(w.retired)
		w.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("retired %v, want %v", got, want)
		}
	}
}

// wantProblem checks an error's kind, its name at Lambda, and a part of its
// text.
func wantProblem(t *testing.T, err error, kind thaw.Kind, problem control.ProblemType, text string) {
	t.Helper()
	p, ok := errors.AsType[*control.Problem](err)
	if !ok || thaw.KindOf(err) != kind || p.Type != problem || !strings.Contains(p.Message, text) {
		t.Errorf("got %v (kind %v), want %v, %s: ...%s...", err, thaw.KindOf(err), kind, problem, text)
	}
}

func TestCreateIsPendingThenActive(t *testing.T) {
	w := newWorld(t)
	release := w.images.Hold()
	f := w.create(t, alice, "f")
	if f.State != control.Pending || f.ReasonCode != control.ReasonCreating || f.Update != "" || f.Code != nil || f.Next == nil {
		t.Errorf("created as %+v", f)
	}
	_, err := w.ResolveInvoke(t.Context(), alice, "f", "")
	wantProblem(t, err, thaw.Conflict, control.ResourceConflict, "The function is currently in the following state: Pending")
	_, err = w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "reg/f:1"})
	wantProblem(t, err, thaw.Conflict, control.ResourceConflict, "following state: Pending")
	_, err = w.UpdateSettings(t.Context(), alice, "f", "", control.Change{})
	wantProblem(t, err, thaw.Conflict, control.ResourceConflict, "following state: Pending")
	for { // the job reports when it has begun
		if p, ok := w.Progress(f); ok && p.Chunks == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	release()
	f = w.settled(t, alice, "f")
	if f.State != control.Active || f.Reason != "" || f.Update != control.Successful || f.Code == nil {
		t.Errorf("settled as %+v", f)
	}
	target, err := w.ResolveInvoke(t.Context(), alice, "f", "")
	if err != nil || target.Image != f.Code.Prepared.Image || target.Timeout != 3*time.Second || target.MemoryMB != 128 ||
		target.TmpMB != 512 || target.ARN != "arn:aws:lambda:us-east-1:111111111111:function:f" || target.Version != "$LATEST" ||
		!slices.Equal(target.Command, []string{"run"}) || target.WorkingDir != "/app" || target.Revision == "" {
		t.Errorf("target %+v, %v", target, err)
	}
	if len(w.retired) != 0 {
		t.Errorf("retired %v", w.retired)
	}
}

func TestOldImageServesDuringAnUpdate(t *testing.T) {
	w := newWorld(t)
	w.create(t, alice, "f")
	old := w.settled(t, alice, "f")
	before, err := w.ResolveInvoke(t.Context(), alice, "f", "")
	if err != nil {
		t.Fatal(err)
	}
	release := w.images.Hold()
	digest := w.images.Push(alice, "reg/f:2", controltest.Image{Content: "two"})
	f, err := w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "reg/f:2", Revision: old.Revision})
	if err != nil || f.State != control.Active || f.Update != control.InProgress || f.Asked().Digest != digest || f.Revision == old.Revision {
		t.Fatalf("%+v, %v", f, err)
	}
	during, err := w.ResolveInvoke(t.Context(), alice, "f", "")
	if err != nil || during.Image != before.Image || during.Revision != before.Revision {
		t.Errorf("during the update: %+v, %v", during, err)
	}
	_, err = w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "reg/f:2"})
	wantProblem(t, err, thaw.Conflict, control.ResourceConflict, "An update is in progress for resource: arn:aws:lambda:us-east-1:111111111111:function:f")
	_, err = w.UpdateSettings(t.Context(), alice, "f", "", control.Change{})
	wantProblem(t, err, thaw.Conflict, control.ResourceConflict, "An update is in progress")
	release()
	f = w.settled(t, alice, "f")
	after, err := w.ResolveInvoke(t.Context(), alice, "f", "")
	if err != nil || f.Update != control.Successful || after.Image == before.Image || after.Revision == before.Revision {
		t.Errorf("after the update: %+v, %+v, %v", f, after, err)
	}
	w.waitRetired(t, "111111111111/f")
}

// errPanic makes a preparation panic.
var errPanic = controltest.Panic("index of /secret/path out of range")

func TestFailedPreparations(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code control.ReasonCode
		text string
	}{
		"invalid":  {thaw.Errorf("flatten", thaw.Invalid, "a path leads out"), control.ReasonInvalidImage, "a path leads out"},
		"large":    {thaw.Errorf("flatten", thaw.TooLarge, "more than 10 GB"), control.ReasonInvalidImage, "SizeLimitExceeded: flatten: more than 10 GB"},
		"corrupt":  {thaw.Errorf("layer", thaw.Corrupt, "digest differs"), control.ReasonInvalidImage, "digest differs"},
		"gone":     {thaw.Errorf("layer", thaw.NotFound, "blob unknown"), control.ReasonImageDeleted, "blob unknown"},
		"denied":   {thaw.Errorf("layer", thaw.Denied, "no pull"), control.ReasonImageAccessDenied, "no pull"},
		"away":     {thaw.Errorf("layer", thaw.Unavailable, "refused"), control.ReasonInternalError, "refused"},
		"internal": {errors.New("disk /secret/path is full"), control.ReasonInternalError, "internal error"},
		"panic":    {errPanic, control.ReasonInternalError, "internal error"},
		"lost":     {thaw.Errorf("layer", thaw.Lost, "/secret/blob is gone"), control.ReasonInternalError, "internal error"},
		"full": {thaw.Errorf("temporary file", thaw.Unavailable, "%w", &fs.PathError{Op: "write", Path: "/secret/hold", Err: syscall.ENOSPC}),
			control.ReasonInternalError, "no space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			digest := w.images.Push(alice, "bad", controltest.Image{Content: "bad", Fails: test.err})
			if _, err := w.Create(t.Context(), alice, control.NewFunction{Name: "f", ImageURI: "bad", Change: control.Change{Role: ptr(role)}}); err != nil {
				t.Fatal(err)
			}
			f := w.settled(t, alice, "f")
			if f.State != control.Failed || f.ReasonCode != test.code || !strings.Contains(f.Reason, test.text) || strings.Contains(f.Reason, "secret") {
				t.Errorf("created as %s, %s: %s", f.State, f.ReasonCode, f.Reason)
			}
			if tries := w.images.Prepared(digest); (tries > 1) != (name == "away" || name == "full") {
				t.Errorf("tried %d times", tries)
			}
			_, err := w.ResolveInvoke(t.Context(), alice, "f", "")
			wantProblem(t, err, thaw.Conflict, control.ResourceConflict, "following state: Failed ("+string(test.code))

			// A good image cures the function; a bad one does not harm it then.
			w.images.Push(alice, "good", controltest.Image{Content: "good"})
			if f, err = w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "good"}); err != nil || f.State != control.Pending {
				t.Fatalf("%+v, %v", f, err)
			}
			if f = w.settled(t, alice, "f"); f.State != control.Active {
				t.Fatalf("not cured: %+v", f)
			}
			if _, err = w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "bad"}); err != nil {
				t.Fatal(err)
			}
			f = w.settled(t, alice, "f")
			if f.State != control.Active || f.Update != control.UpdateFailed || f.UpdateCode != test.code || f.Asked().ImageURI != "good" {
				t.Errorf("after a failed update: %+v", f)
			}
			if _, err = w.ResolveInvoke(t.Context(), alice, "f", ""); err != nil {
				t.Errorf("the old image does not serve: %v", err)
			}
			w.closeAll()
			if ours := strings.Contains(w.log.String(), "level=ERROR"); ours != (test.code == control.ReasonInternalError) {
				t.Errorf("logged as the operator's to repair: %v\n%s", ours, &w.log)
			}
		})
	}
}

func TestResolveErrors(t *testing.T) {
	w := newWorld(t)
	for ref, test := range map[string]struct {
		err     error
		kind    thaw.Kind
		problem control.ProblemType
		text    string
	}{
		"none":    {nil, thaw.Invalid, control.InvalidParameter, "Source image none does not exist. Provide a valid source image."},
		"":        {nil, thaw.Invalid, control.InvalidParameter, "Please provide a source for function code"},
		"invalid": {thaw.Errorf("", thaw.Invalid, "x"), thaw.Invalid, control.InvalidParameter, "Source image invalid is not valid."},
		"denied":  {thaw.Errorf("", thaw.Denied, "x"), thaw.Denied, control.AccessDenied, "does not have permission to access"},
		"away":    {thaw.Errorf("", thaw.Unavailable, "x"), thaw.Unavailable, control.Unavailable, "can't be read now"},
	} {
		if test.err != nil {
			w.images.Refuse(alice, ref, test.err)
		}
		_, err := w.Create(t.Context(), alice, control.NewFunction{Name: "f", ImageURI: ref, Change: control.Change{Role: ptr(role)}})
		wantProblem(t, err, test.kind, test.problem, test.text)
	}
	w.create(t, alice, "f")
	_, err := w.Create(t.Context(), alice, control.NewFunction{Name: "f", ImageURI: "reg/f:1", Change: control.Change{Role: ptr(role)}})
	wantProblem(t, err, thaw.Conflict, control.ResourceConflict, "Function already exist: f")
}

// TestPreparationGoesOnAfterARestart, where the reference that it was given
// leads nowhere any more: this server has another address.
func TestPreparationGoesOnAfterARestart(t *testing.T) {
	w := newWorld(t)
	release := w.images.Hold()
	defer release()
	created := w.create(t, alice, "new")
	for w.images.Prepared(created.Next.Digest) == 0 {
		time.Sleep(time.Millisecond)
	}
	w.closeAll()
	w.images.Refuse(alice, "reg/new:1", thaw.Errorf("resolve", thaw.Unavailable, "connection refused"))
	w.open(t)
	f, _, err := w.Get(t.Context(), alice, "new", "")
	if err != nil || f.State != control.Pending {
		t.Fatalf("after a restart: %+v, %v", f, err)
	}
	release()
	f = w.settled(t, alice, "new")
	if f.State != control.Active || w.images.Prepared(f.Code.Digest) != 2 {
		t.Errorf("%+v, prepared %d times", f, w.images.Prepared(f.Code.Digest))
	}
	// The same for an update.
	releaseAgain := w.images.Hold()
	w.images.Push(alice, "reg/new:2", controltest.Image{Content: "two"})
	if _, err := w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "new", ImageURI: "reg/new:2"}); err != nil {
		t.Fatal(err)
	}
	w.closeAll()
	w.open(t)
	if target, err := w.ResolveInvoke(t.Context(), alice, "new", ""); err != nil || target.Image != f.Code.Prepared.Image {
		t.Errorf("the old image does not serve after a restart: %+v, %v", target, err)
	}
	releaseAgain()
	if f = w.settled(t, alice, "new"); f.Code.ImageURI != "reg/new:2" || f.Update != control.Successful {
		t.Errorf("%+v", f)
	}
}

func TestSettingsChangeAtOnce(t *testing.T) {
	w := newWorld(t)
	w.create(t, alice, "f")
	f := w.settled(t, alice, "f")
	before, err := w.ResolveInvoke(t.Context(), alice, "f", "")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := w.UpdateSettings(t.Context(), alice, "f", f.Revision, control.Change{TimeoutSeconds: ptr(9), MemoryMB: ptr(256),
		EphemeralMB: ptr(1024), Environment: &map[string]string{"KEY": "v"},
		ImageConfig: &control.ImageConfig{EntryPoint: []string{"/other"}, WorkingDirectory: "/w"}})
	if err != nil || changed.Revision == f.Revision || changed.Update != control.Successful {
		t.Fatalf("%+v, %v", changed, err)
	}
	after, err := w.ResolveInvoke(t.Context(), alice, "f", "")
	if err != nil || after.Timeout != 9*time.Second || after.MemoryMB != 256 || after.TmpMB != 1024 || after.Env["KEY"] != "v" ||
		!slices.Equal(after.Entrypoint, []string{"/other"}) || !slices.Equal(after.Command, []string{"run"}) || after.WorkingDir != "/w" ||
		after.Revision == before.Revision || after.Image != before.Image {
		t.Errorf("target %+v, %v", after, err)
	}
	w.waitRetired(t, "111111111111/f")
	_, err = w.UpdateSettings(t.Context(), alice, "f", f.Revision, control.Change{})
	wantProblem(t, err, thaw.Conflict, control.PreconditionFailed, "The Revision Id provided does not match")
	_, err = w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "reg/f:1", Revision: f.Revision})
	wantProblem(t, err, thaw.Conflict, control.PreconditionFailed, "The Revision Id provided does not match")
	// What is not named stays; empty values take away.
	again, err := w.UpdateSettings(t.Context(), alice, "f", "", control.Change{Environment: &map[string]string{}, ImageConfig: &control.ImageConfig{}})
	if err != nil || again.Settings.TimeoutSeconds != 9 || len(again.Settings.Environment) != 0 || !again.Settings.ImageConfig.IsZero() {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.create(t, alice, "f")
	f := w.settled(t, alice, "f")
	digest := w.images.Push(alice, "reg/f:2", controltest.Image{Content: "two"})
	shown, err := w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "reg/f:2", DryRun: true})
	if err != nil || shown.Asked().Digest != digest {
		t.Errorf("%+v, %v", shown, err)
	}
	if now, _, err := w.Get(t.Context(), alice, "f", ""); err != nil || now.Revision != f.Revision || now.Next != nil || w.images.Prepared(digest) != 0 {
		t.Errorf("a dry run left %+v, %v", now, err)
	}
	_, err = w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "f", ImageURI: "none", DryRun: true})
	wantProblem(t, err, thaw.Invalid, control.InvalidParameter, "does not exist")
}

func TestDelete(t *testing.T) {
	w := newWorld(t)
	w.create(t, alice, "f")
	w.settled(t, alice, "f")
	if _, err := w.ResolveInvoke(t.Context(), alice, "f", ""); err != nil { // now it is in memory
		t.Fatal(err)
	}
	err := w.Delete(t.Context(), alice, "f", "$LATEST")
	wantProblem(t, err, thaw.Invalid, control.InvalidParameter, "cannot be deleted without deleting the function")
	wantProblem(t, w.Delete(t.Context(), alice, "f", "1"), thaw.NotFound, control.ResourceNotFound, "function:f:1")
	if err := w.Delete(t.Context(), alice, "f", ""); err != nil {
		t.Fatal(err)
	}
	_, err = w.ResolveInvoke(t.Context(), alice, "f", "")
	wantProblem(t, err, thaw.NotFound, control.ResourceNotFound, "Function not found: arn:aws:lambda:us-east-1:111111111111:function:f")
	wantProblem(t, w.Delete(t.Context(), alice, "f", ""), thaw.NotFound, control.ResourceNotFound, "Function not found")
	w.waitRetired(t, "111111111111/f")

	// One that is being prepared: its job ends, and does not touch a new
	// function of the same name.
	release := w.images.Hold()
	defer release()
	first := w.create(t, alice, "f")
	if err := w.Delete(t.Context(), alice, "f", ""); err != nil {
		t.Fatal(err)
	}
	for ok := true; ok; _, ok = w.Progress(first) {
		time.Sleep(time.Millisecond)
	}
	second := w.create(t, alice, "f")
	release()
	if f := w.settled(t, alice, "f"); f.State != control.Active || f.Code.Job != second.Next.Job {
		t.Errorf("%+v", f)
	}
}

// TestTargetIsNeverStale changes a function while others resolve it: whoever
// begins after a change was acknowledged sees that change or a later one.
func TestTargetIsNeverStale(t *testing.T) {
	w := newWorld(t)
	w.create(t, alice, "f")
	w.settled(t, alice, "f")
	var acknowledged sync.Map // of timeouts
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				floor := 0
				acknowledged.Range(func(k, _ any) bool { floor = max(floor, k.(int)); return true })
				target, err := w.ResolveInvoke(t.Context(), alice, "f", "")
				if err != nil || int(target.Timeout.Seconds()) < floor {
					t.Errorf("timeout %v after %d was acknowledged, %v", target.Timeout, floor, err)
					return
				}
			}
		})
	}
	for i := 4; i < 60; i++ {
		if _, err := w.UpdateSettings(t.Context(), alice, "f", "", control.Change{TimeoutSeconds: &i}); err != nil {
			t.Error(err)
			break
		}
		acknowledged.Store(i, true)
	}
	close(stop)
	group.Wait()
}

func BenchmarkResolveInvoke(b *testing.B) {
	images := controltest.NewImages()
	images.Push(alice, "image", controltest.Image{})
	db, err := sqlitedb.Open(b.Context(), filepath.Join(b.TempDir(), "x.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	c, err := control.Open(b.Context(), control.Options{DB: db, Images: images, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Create(b.Context(), alice, control.NewFunction{Name: "f", ImageURI: "image", Change: control.Change{Role: ptr(role)}}); err != nil {
		b.Fatal(err)
	}
	for {
		if _, err := c.ResolveInvoke(b.Context(), alice, "f", ""); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for b.Loop() {
		if _, err := c.ResolveInvoke(b.Context(), alice, "f", ""); err != nil {
			b.Fatal(err)
		}
	}
}
