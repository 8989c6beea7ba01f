// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"testing"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/invoke/control"
	"thaw.dev/thaw/invoke/control/controltest"
)

// TestQuotas: an account has no more functions and no more bytes of images than it
// may, also after a restart; what is deleted makes room, and others have their
// own.
func TestQuotas(t *testing.T) {
	w := newWorld(t)
	reopen := func(functions, imageBytes int64) {
		t.Helper()
		w.closeAll()
		w.functions, w.imageBytes = functions, imageBytes
		w.open(t)
	}
	ready := func(tenant thaw.TenantID, name string) {
		t.Helper()
		w.create(t, tenant, name)
		if f := w.settled(t, tenant, name); f.State != control.Active {
			t.Fatalf("%s is %s: %s", name, f.State, f.Reason)
		}
	}
	w.images.Push(alice, "reg/new:1", controltest.Image{Content: "new"})
	create := func() error {
		_, err := w.Create(t.Context(), alice, control.NewFunction{Name: "new", ImageURI: "reg/new:1", Change: control.Change{Role: ptr(role)}})
		return err
	}
	remove := func(name string) {
		t.Helper()
		if err := w.Delete(t.Context(), alice, name, ""); err != nil {
			t.Fatal(err)
		}
	}

	reopen(2, 0)
	ready(alice, "a")
	ready(alice, "b")
	const tooMany = "as many functions as it may have, 2"
	wantProblem(t, create(), thaw.Invalid, control.CodeStorage, tooMany)
	ready(bob, "c")
	reopen(2, 0)
	wantProblem(t, create(), thaw.Invalid, control.CodeStorage, tooMany)
	if u := w.Quotas()[0].Usage(nil); u.Most != 2 || u.Refused != 1 {
		t.Errorf("%+v", u)
	}
	if _, err := w.Create(t.Context(), alice, control.NewFunction{Name: "a", ImageURI: "reg/new:1", Change: control.Change{Role: ptr(role)}}); err == nil {
		t.Error("a name that is taken was created")
	}
	remove("a")
	if _, err := w.Create(t.Context(), alice, control.NewFunction{Name: "new", ImageURI: "reg/absent:1", Change: control.Change{Role: ptr(role)}}); err == nil {
		t.Error("an absent image was taken")
	}
	if err := create(); err != nil {
		t.Errorf("after one was deleted: %v", err)
	}
	w.settled(t, alice, "new")

	// The images of b and new have "one b" and "new".
	used := func() int64 { n, _ := w.Quotas()[1].Used(string(alice)); return n }
	for deadline := time.Now().Add(time.Minute); used() != int64(len("one b")+len("new")); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("images count %d bytes", used())
		}
	}
	reopen(0, int64(len("one b")))
	remove("new")
	const tooMuch = "Code storage limit exceeded: the images of the account's functions have 5 bytes"
	wantProblem(t, create(), thaw.Invalid, control.CodeStorage, tooMuch)
	_, err := w.UpdateCode(t.Context(), alice, control.CodeUpdate{Name: "b", ImageURI: "reg/new:1"})
	wantProblem(t, err, thaw.Invalid, control.CodeStorage, tooMuch)
	remove("b")
	if err := create(); err != nil {
		t.Errorf("after the images were deleted: %v", err)
	}
}

// TestImagesPreparedAtOnce: functions that were created together, while none had
// an image, don't go far past the bound.
func TestImagesPreparedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.closeAll()
	w.imageBytes = 1
	w.open(t)
	release := w.images.Hold()
	const functions = 8
	for i := range functions {
		w.create(t, alice, string(rune('a'+i)))
	}
	release()
	var active int
	for i := range functions {
		switch f := w.settled(t, alice, string(rune('a'+i))); f.State {
		case control.Active:
			active++
		default:
			if f.ReasonCode != control.ReasonInvalidImage {
				t.Errorf("%s: %s %s", f.Name, f.ReasonCode, f.Reason)
			}
		}
	}
	if active == 0 || active > 4 {
		t.Errorf("%d images are ready", active)
	}
}
