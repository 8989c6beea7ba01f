// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

// trees draws files of a few folders, with sizes around everything that
// matters.
func trees() *rapid.Generator[[]File] {
	return rapid.Custom(func(t *rapid.T) []File {
		byPath := map[string]File{}
		for _, f := range rapid.SliceOfN(anyFile(), 0, 60).Draw(t, "files") {
			byPath[f.Path] = f
		}
		return slices.SortedFunc(maps.Values(byPath), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	})
}

func anyFile() *rapid.Generator[File] {
	folders := []string{"", "bin/", "usr/lib/", "usr/lib/a/", "usr/lib/a/b/", "usr/lib/a/b/c/", "usr/lib/a/b-/", "usr/lib/a/c/d/e/"}
	return rapid.Custom(func(t *rapid.T) File {
		size := rapid.OneOf(rapid.Int64Range(0, 20_000), rapid.Int64Range(0, 3*thaw.MaxChunkBytes),
			rapid.SampledFrom([]int64{0, 1, 4095, 4096, 4097, thaw.MaxChunkBytes - 1, thaw.MaxChunkBytes, thaw.MaxChunkBytes + 1})).Draw(t, "size")
		return File{
			Path:   rapid.SampledFrom(folders).Draw(t, "folder") + rapid.StringMatching(`[a-e.\-]{1,4}`).Draw(t, "name"),
			Size:   size,
			Domain: rapid.Uint8Range(0, 2).Draw(t, "domain"),
		}
	})
}

// wantFolder is the definition of a group's folder, written another way.
func wantFolder(path string) string {
	parts := strings.Split(path, "/")
	parts = parts[:len(parts)-1]
	return strings.Join(parts[:min(len(parts), 4)], "/")
}

func TestLayCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := trees().Draw(t, "tree")
		first := rapid.Uint32Range(0, 1<<31).Draw(t, "first")
		l := Lay(files, first)
		owner := map[uint32]int{} // of each block, the file whose data it holds
		for i, f := range files {
			if f.Size == 0 && l.Start[i] != 0 {
				t.Fatalf("the empty file %q got block %d", f.Path, l.Start[i])
			}
			for b := range uint32(blocksOf(f.Size)) {
				if other, taken := owner[l.Start[i]+b]; taken {
					t.Fatalf("block %d holds %q and %q", l.Start[i]+b, files[other].Path, f.Path)
				}
				owner[l.Start[i]+b] = i
			}
		}
		next := first
		for _, e := range l.Extents {
			if e.Block != next || e.Blocks < 1 || e.Blocks > MaxBlocks {
				t.Fatalf("extent %+v, where block %d is next", e, next)
			}
			next = e.End()
			checkExtent(t, files, l, e, owner)
		}
		if next != l.End || len(owner) != int(l.End-first) {
			t.Fatalf("the extents end at %d, the layout at %d with %d blocks taken", next, l.End, len(owner))
		}
	})
}

// checkExtent checks that an extent is a piece of one large file, cut from its
// start, or whole small files of one folder and domain.
func checkExtent(t *rapid.T, files []File, l Layout, e Extent, owner map[uint32]int) {
	one := owner[e.Block]
	for b := e.Block; b < e.End(); b++ {
		i := owner[b]
		f := files[i]
		large := f.Size >= thaw.MaxChunkBytes
		switch {
		case f.Domain != e.Domain:
			t.Fatalf("extent %+v holds %+v", e, f)
		case wantFolder(f.Path) != wantFolder(files[one].Path):
			t.Fatalf("extent %+v holds %q and %q", e, files[one].Path, f.Path)
		case large && (i != one || (e.Block-l.Start[i])%MaxBlocks != 0):
			t.Fatalf("extent %+v is not a piece of %+v at %d", e, f, l.Start[i])
		case !large && (l.Start[i] < e.Block || l.Start[i]+uint32(blocksOf(f.Size)) > e.End()):
			t.Fatalf("the small file %+v at %d is cut by %+v", f, l.Start[i], e)
		}
	}
}

func TestLayIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := trees().Draw(t, "tree")
		want := Lay(files, 7)
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Perm(len(files))
		shuffled := make([]File, len(files))
		for i, j := range order {
			shuffled[i] = files[j]
		}
		got := Lay(shuffled, 7)
		if !slices.Equal(got.Extents, want.Extents) || got.End != want.End {
			t.Fatal("another order gave other extents")
		}
		for i, j := range order {
			if got.Start[i] != want.Start[j] {
				t.Fatalf("%q moved from %d to %d", files[j].Path, want.Start[j], got.Start[i])
			}
		}
	})
}

// chunkTexts describes each chunk by what is in it, wherever it lies.
func chunkTexts(files []File) map[string]string {
	l := Lay(files, 0)
	inside := make([][]string, len(l.Extents))
	folder := make([]string, len(l.Extents))
	for i, f := range files {
		for b := uint32(0); b < uint32(blocksOf(f.Size)); b++ {
			at, _ := slices.BinarySearchFunc(l.Extents, l.Start[i]+b, func(e Extent, block uint32) int {
				switch {
				case e.End() <= block:
					return -1
				case e.Block > block:
					return 1
				}
				return 0
			})
			inside[at] = append(inside[at], fmt.Sprintf("%s:%d:%d", f.Path, f.Size, b))
			folder[at] = fmt.Sprintf("%s:%d", wantFolder(f.Path), f.Domain)
		}
	}
	texts := map[string]string{}
	for i := range inside {
		texts[strings.Join(inside[i], " ")] = folder[i]
	}
	return texts
}

func TestLayOneFileMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := trees().Draw(t, "tree")
		added := anyFile().Draw(t, "added")
		if slices.ContainsFunc(files, func(f File) bool { return f.Path == added.Path }) {
			t.Skip("there is such a file")
		}
		before, after := chunkTexts(files), chunkTexts(append(slices.Clone(files), added))
		where := fmt.Sprintf("%s:%d", wantFolder(added.Path), added.Domain)
		for _, pair := range []struct{ from, to map[string]string }{{before, after}, {after, before}} {
			for text, folder := range pair.from {
				if _, same := pair.to[text]; !same && folder != where {
					t.Fatalf("%+v changed the chunk %.80q of %q", added, text, folder)
				}
			}
		}
	})
}

// TestLayResumes checks on a large folder what the content-defined end is for:
// behind a change the groups soon are the same again.
func TestLayResumes(t *testing.T) {
	var files []File
	for i := range 2000 {
		files = append(files, File{Path: fmt.Sprintf("usr/share/doc/%04d-%x", i, i*i), Size: int64(i*37%30_000) + 1})
	}
	before := chunkTexts(files)
	after := chunkTexts(slices.Insert(slices.Clone(files), 500, File{Path: "usr/share/doc/0499-zzz", Size: 9000}))
	changed := 0
	for text := range after {
		if _, same := before[text]; !same {
			changed++
		}
	}
	if changed < 1 || changed > 4 {
		t.Errorf("one more file changed %d of %d chunks", changed, len(after))
	}
}

func TestLayPanicsOnWhatCannotBe(t *testing.T) {
	for name, files := range map[string][]File{
		"negative": {{Path: "a", Size: -1}},
		"too far":  {{Path: "a", Size: 1 << 44}},
		"largest":  {{Path: "a", Size: 1<<63 - 1}},
		"sum":      {{Path: "a", Size: 1}, {Path: "b", Size: 100_000}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: Lay returned", name)
				}
			}()
			Lay(files, 1<<32-20)
		}()
	}
}

func TestCutMeta(t *testing.T) {
	for _, blocks := range []uint32{0, 1, metaBlocks - 1, metaBlocks, metaBlocks + 1, 1000} {
		next := uint32(0)
		for _, e := range CutMeta(blocks) {
			if e.Block != next || e.Blocks == 0 || e.Blocks > metaBlocks || e.Blocks < metaBlocks && e.End() != blocks {
				t.Errorf("of %d blocks: extent %+v, where %d is next", blocks, e, next)
			}
			next = e.End()
		}
		if next != blocks {
			t.Errorf("of %d blocks %d are covered", blocks, next)
		}
	}
}

func BenchmarkLay(b *testing.B) {
	var files []File
	for i := range 300_000 {
		files = append(files, File{Path: fmt.Sprintf("usr/lib/node_modules/pkg-%d/dist/file-%d.js", i/40, i), Size: int64(i * 7919 % 30_000)})
	}
	for b.Loop() {
		Lay(files, 1)
	}
}
