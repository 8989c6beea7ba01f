// SPDX-License-Identifier: Apache-2.0

package view_test

import (
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/view"
)

// starts returns where each chunk begins.
func (img *image) starts(t *testing.T, v *view.View) []int64 {
	t.Helper()
	var starts []int64
	for block := uint32(0); int64(block)*thaw.BlockBytes < v.Size(); {
		_, _, end, err := v.ChunkAt(t.Context(), block)
		if err != nil {
			t.Fatal(err)
		}
		starts = append(starts, int64(block)*thaw.BlockBytes)
		block = end
	}
	return starts
}

// named counts the chunks of a range that are not zeros.
func (img *image) named(from, to int) (n int64) {
	for _, name := range img.names[from:to] {
		if !name.IsZero() {
			n++
		}
	}
	return n
}

func TestReadsInOrderAreOpenedAhead(t *testing.T) {
	for what, test := range map[string]struct {
		recorded bool
		ahead    int // chunks, after the 40th
	}{
		"a reader":          {false, 8},
		"a recorded reader": {true, 0},
	} {
		t.Run(what, func(t *testing.T) {
			img, source := newImage(t, 60)
			img.options.Plain = view.NewPlainCache(256 << 20)
			img.options.Ahead = view.NewAhead(t.Context())
			v := img.open(t)
			if test.recorded {
				defer v.Record().Stop()
			}
			starts := img.starts(t, v)
			read := func(chunk int) {
				t.Helper()
				if _, err := readAt(t, v, make([]byte, 1), starts[chunk]); err != nil {
					t.Fatal(err)
				}
				img.options.Ahead.Wait()
			}
			for chunk := range 40 {
				read(chunk)
			}
			if got, want := source.n.Load(), img.named(0, 40+test.ahead); got != want {
				t.Errorf("%d chunks fetched for 40 and %d ahead, want %d", got, test.ahead, want)
			}
			for chunk := 40; chunk < 60; chunk++ { // to the end of the image, and no further
				read(chunk)
			}
			if got, want := source.n.Load(), img.named(0, 60); got != want {
				t.Errorf("%d fetches for an image of %d chunks", got, want)
			}
		})
	}
}

func TestReadsHereAndThereOpenNothingAhead(t *testing.T) {
	img, source := newImage(t, 60)
	img.options.Ahead = view.NewAhead(t.Context())
	v := img.open(t)
	starts := img.starts(t, v)
	want := int64(0)
	for i := range 60 {
		chunk := i * 23 % 60 // each once, never one next to the one before
		if _, err := readAt(t, v, make([]byte, 1), starts[chunk]); err != nil {
			t.Fatal(err)
		}
		img.options.Ahead.Wait()
		if want += img.named(chunk, chunk+1); source.n.Load() != want {
			t.Fatalf("after chunk %d: %d fetches for %d chunks", chunk, source.n.Load(), want)
		}
	}
}

// Readers that go through an image at a time are told apart.
func TestReadersInOrderBesideOneAnother(t *testing.T) {
	img, source := newImage(t, 60)
	img.options.Plain = view.NewPlainCache(256 << 20)
	img.options.Ahead = view.NewAhead(t.Context())
	v := img.open(t)
	starts := img.starts(t, v)
	for i := range 8 {
		for _, begin := range []int{0, 20, 40} {
			if _, err := readAt(t, v, make([]byte, 1), starts[begin+i]); err != nil {
				t.Fatal(err)
			}
			img.options.Ahead.Wait()
		}
	}
	want := img.named(0, 12) + img.named(20, 32) + img.named(40, 52)
	if got := source.n.Load(); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}
