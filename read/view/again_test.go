// SPDX-License-Identifier: Apache-2.0

package view_test

import (
	"sync/atomic"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/view"
)

// TestOpeningAgainIsTold: not the first opening of a chunk, of the image or of a
// pack, by a read or ahead of one, but each further one, and no read of what is
// open still.
func TestOpeningAgainIsTold(t *testing.T) {
	var told atomic.Int64
	again := func(tenant thaw.TenantID, _ time.Duration) {
		if tenant != owner {
			t.Errorf("told of %s", tenant)
		}
		told.Add(1)
	}
	img, source := newImage(t, 30)
	img.options.Plain, img.options.Again = view.NewPlainCache(256<<20), again
	img.options.Ahead = view.NewAhead(t.Context())
	check := func(what string, v *view.View, bytes int64, opened bool) {
		t.Helper()
		told.Store(0)
		before := source.n.Load()
		for off := int64(0); off < bytes; off += 64 << 10 {
			if _, err := v.Read(t.Context(), off, int(min(64<<10, bytes-off))); err != nil {
				t.Fatal(err)
			}
			img.options.Ahead.Wait()
		}
		want := int64(0)
		if opened {
			if want = source.n.Load() - before; want == 0 {
				t.Fatal(what + ": nothing was opened")
			}
		}
		if got := told.Load(); got != want {
			t.Errorf("%s: told of %d, not of %d", what, got, want)
		}
	}
	v := img.open(t)
	check("the first time", v, v.Size(), false)
	check("what is open", v, v.Size(), false)
	img.options.Plain.Drop()
	check("what was forgotten", v, v.Size(), true)
}

// TestOpeningAPackAgainIsTold is the same for the chunks of a pack.
func TestOpeningAPackAgainIsTold(t *testing.T) {
	var told atomic.Int64
	img, _, v, set, stored := packed(t, 1<<20)
	img.options.Again = func(thaw.TenantID, time.Duration) { told.Add(1) }
	v = img.open(t)
	v.UsePack(set, stored)
	read := func() {
		t.Helper()
		r := set.Runs[0]
		if _, err := v.Read(t.Context(), int64(r.Block)*thaw.BlockBytes, thaw.BlockBytes); err != nil {
			t.Fatal(err)
		}
	}
	read()
	read()
	if got := told.Load(); got != 0 {
		t.Errorf("told of %d at first", got)
	}
	img.options.Plain.Drop()
	read()
	if got := told.Load(); got != 1 {
		t.Errorf("told of %d, not of one", got)
	}
}
