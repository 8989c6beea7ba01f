// SPDX-License-Identifier: Apache-2.0

package view_test

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/view"
	"thaw.dev/thaw/read/workingset"
)

// packs is a source of packed chunks.
type packs map[thaw.ChunkName]thaw.SealedChunk

func (p packs) Get(_ context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	if sealed, ok := p[name]; ok {
		return sealed, nil
	}
	return nil, thaw.Errorf("packs", thaw.Unavailable, "it is not there")
}

func (p packs) put(c thaw.NamedChunk) error {
	p[c.Name()] = c.Sealed()
	return nil
}

// someRuns returns runs of blocks as a start might read them.
func someRuns(random *rand.Rand, blocks uint32) []workingset.Run {
	var runs []workingset.Run
	for b := random.Uint32N(20); b < blocks; b += 1 + random.Uint32N(40) {
		n := min(1+random.Uint32N(150), blocks-b)
		runs = append(runs, workingset.Run{Block: b, Blocks: n})
		b += n
	}
	random.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
	return runs
}

// packed returns an image with a pack of some of it in use.
func packed(t *testing.T, maxBlocks int) (*image, *counting, *view.View, workingset.Set, packs) {
	t.Helper()
	img, source := newImage(t, 30)
	v := img.open(t)
	rec := v.Record()
	set := workingset.Set{Starts: 1, Runs: someRuns(rand.New(rand.NewPCG(3, 3)), uint32(len(img.plain)/thaw.BlockBytes))}
	stored := packs{}
	var err error
	if set.Pack, err = v.Pack(t.Context(), set.Runs, maxBlocks, stored.put); err != nil {
		t.Fatal(err)
	}
	if noted := rec.Stop(); len(noted) > 0 {
		t.Errorf("packing was recorded as reads: %v", noted)
	}
	img.options.Plain.Drop()
	source.n.Store(0)
	v.UsePack(set, stored)
	return img, source, v, set, stored
}

func TestPackedRunsAreReadFromThePack(t *testing.T) {
	img, source, v, set, _ := packed(t, 1<<30)
	held := 0
	for _, c := range set.Pack {
		held += int(c.Blocks)
	}
	if held != set.Blocks() {
		t.Fatalf("the pack holds %d blocks of %d", held, set.Blocks())
	}
	for _, r := range set.Runs {
		off, p := int64(r.Block)*thaw.BlockBytes, make([]byte, r.Blocks*thaw.BlockBytes)
		if _, err := readAt(t, v, p, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, img.plain[off:off+int64(len(p))]) {
			t.Fatalf("%d blocks at %d: wrong bytes", r.Blocks, r.Block)
		}
	}
	if n := source.n.Load(); n > 0 {
		t.Errorf("%d chunks of the image were fetched for what the pack holds", n)
	}
	again := packs{}
	chunks, err := v.Pack(t.Context(), set.Runs, 1<<30, again.put)
	if err != nil || !slices.Equal(chunks, set.Pack) {
		t.Errorf("the same runs are packed another way: %v", err)
	}
}

func TestReadsAcrossAPackEqualTheImage(t *testing.T) {
	for _, maxBlocks := range []int{1, 63, 64, 200, 1 << 30} {
		img, _, v, _, _ := packed(t, maxBlocks)
		random := rand.New(rand.NewPCG(4, uint64(maxBlocks)))
		for range 100 {
			off := random.Int64N(v.Size())
			p := make([]byte, 1+random.IntN(1<<20))
			n, _ := readAt(t, v, p, off)
			if !bytes.Equal(p[:n], img.plain[off:off+int64(n)]) {
				t.Fatalf("pack of %d blocks: read of %d at %d: wrong bytes", maxBlocks, len(p), off)
			}
		}
		if v.LostPack() {
			t.Errorf("the pack of %d blocks was given up", maxBlocks)
		}
	}
}

func TestLostPackIsGivenUp(t *testing.T) {
	for name, lose := range map[string]func(packs){
		"gone": func(p packs) { clear(p) },
		"not what was sealed": func(p packs) {
			for name := range maps.Keys(p) {
				p[name] = bytes.Repeat([]byte{1}, len(p[name]))
			}
		},
		"empty": func(p packs) {
			for name := range maps.Keys(p) {
				p[name] = nil
			}
		},
	} {
		img, _, v, set, stored := packed(t, 1<<30)
		lose(stored)
		for _, r := range set.Runs {
			off, p := int64(r.Block)*thaw.BlockBytes, make([]byte, r.Blocks*thaw.BlockBytes)
			if _, err := readAt(t, v, p, off); err != nil || !bytes.Equal(p, img.plain[off:off+int64(len(p))]) {
				t.Fatalf("%s: %d blocks at %d: %v, or wrong bytes", name, r.Blocks, r.Block, err)
			}
		}
		if !v.LostPack() {
			t.Errorf("%s: nobody is told", name)
		}
	}
}
