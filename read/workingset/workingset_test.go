// SPDX-License-Identifier: Apache-2.0

package workingset

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

func TestEncodingIsInvertible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Set{Starts: rapid.IntRange(1, maxSeen).Draw(t, "starts"), Runs: []Run{}}
		at, next := time.Duration(0), uint32(0)
		for range rapid.IntRange(0, 50).Draw(t, "runs") {
			at += time.Duration(rapid.IntRange(0, 1e6).Draw(t, "after")) * time.Microsecond
			next += rapid.Uint32Range(0, 9).Draw(t, "gap")
			r := Run{Block: next, Blocks: rapid.Uint32Range(1, 9).Draw(t, "blocks"), At: at, Seen: rapid.IntRange(1, maxSeen).Draw(t, "seen")}
			next += r.Blocks
			s.Runs = append(s.Runs, r)
		}
		for rest := s.Blocks(); rest > 0 && rapid.Bool().Draw(t, "packed"); {
			c := Packed{Blocks: uint32(min(rest, PackedBlocks)), Bytes: rapid.Uint32Range(1, maxPackedBytes).Draw(t, "bytes")}
			c.Name[0], c.Key[31] = rapid.Byte().Draw(t, "name"), rapid.Byte().Draw(t, "key")
			s.Pack = append(s.Pack, c)
			rest -= int(c.Blocks)
		}
		got, err := Decode(s.Encode(), 1000*thaw.BlockBytes)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, s)
		}
	})
}

func TestDecodeRefusesWhatNoStartReads(t *testing.T) {
	for why, runs := range map[string][]Run{
		"begins behind the image": {{Block: 10, Blocks: 1, Seen: 1}},
		"ends behind the image":   {{Block: 9, Blocks: 2, Seen: 1}},
		"has no blocks":           {{Block: 1, Blocks: 0, Seen: 1}},
		"more than there are":     {{Block: 0, Blocks: 9, Seen: 1}, {Block: 0, Blocks: 9, Seen: 1}},
		"seen by none":            {{Block: 0, Blocks: 1}},
	} {
		b := Set{Starts: 1, Runs: runs}.Encode()
		if s, err := Decode(b, 10*thaw.BlockBytes); thaw.KindOf(err) != thaw.Corrupt {
			t.Errorf("%s: decoded %+v, %v", why, s, err)
		}
	}
}

func TestDecodeRefusesWhatIsNoPack(t *testing.T) {
	full := Packed{Blocks: PackedBlocks, Bytes: 1}
	for why, pack := range map[string][]Packed{
		"more blocks than the set": {full, full, {Blocks: 23, Bytes: 1}},
		"a short chunk amid":       {{Blocks: 1, Bytes: 1}, full},
		"a chunk of nothing":       {full, {Blocks: 0, Bytes: 1}},
		"a chunk of no bytes":      {{Blocks: 1}},
		"a chunk too long":         {{Blocks: 1, Bytes: maxPackedBytes + 1}},
		"too many blocks in one":   {{Blocks: PackedBlocks + 1, Bytes: 1}},
	} {
		b := Set{Starts: 1, Runs: []Run{{Block: 0, Blocks: 150, Seen: 1}}, Pack: pack}.Encode()
		if s, err := Decode(b, 1000*thaw.BlockBytes); thaw.KindOf(err) != thaw.Corrupt {
			t.Errorf("%s: decoded %+v, %v", why, s, err)
		}
	}
}

// A pack of 40 chunks is three objects, and another pack shares none that
// differs.
func TestPlaces(t *testing.T) {
	var s Set
	for i := range 40 {
		s.Pack = append(s.Pack, Packed{Name: thaw.ChunkName{byte(i)}, Bytes: uint32(10 + i), Blocks: PackedBlocks})
	}
	places := s.Places(thaw.ImageID{1}, "r")
	keys := map[string]int{}
	for _, p := range places {
		keys[p.Key]++
	}
	if len(places) != 40 || len(keys) != 3 {
		t.Fatalf("%d places in %d objects", len(places), len(keys))
	}
	if p := places[thaw.ChunkName{18}]; p.Off != 26+27 || p.Bytes != 28 || keys[p.Key] != SegmentChunks {
		t.Errorf("the third chunk of the second object: %+v", p)
	}
	s.Pack[39].Name = thaw.ChunkName{99}
	for name, p := range s.Places(thaw.ImageID{1}, "r") {
		if same := p.Key == places[name].Key; same != (name[0] < 32) {
			t.Errorf("chunk %d of another pack: the same object %v", name[0], same)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Set{Starts: 1, Runs: []Run{{Block: 3, Blocks: 2, At: time.Millisecond, Seen: 1}}}.Encode())
	f.Add([]byte{version, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b, 100*thaw.BlockBytes)
		if err != nil {
			if thaw.KindOf(err) != thaw.Corrupt {
				t.Fatalf("error %v is not corrupt", err)
			}
			return
		}
		for _, r := range s.Runs {
			if r.Blocks == 0 || r.Block+r.Blocks > 100 {
				t.Fatalf("run %+v of 100 blocks", r)
			}
		}
	})
}

func TestMergeKeepsWhatStartsRead(t *testing.T) {
	start := func(blocks ...uint32) []Run {
		var runs []Run
		for i, b := range blocks {
			runs = append(runs, Run{Block: b, Blocks: 1, At: time.Duration(i) * time.Millisecond})
		}
		return runs
	}
	s := Set{}.Merge(start(50, 10, 90))
	if got := blocks(s); !slices.Equal(got, []uint32{50, 10, 90}) || s.Starts != 1 {
		t.Fatalf("after one start: %v, %d starts", got, s.Starts)
	}
	// 70 is read by one of two starts, 90 too: half is enough to stay.
	s = s.Merge(start(10, 50, 70))
	if got := blocks(s); !slices.Equal(got, []uint32{10, 50, 70, 90}) {
		t.Fatalf("after two starts: %v", got)
	}
	for range 2 * maxSeen {
		s = s.Merge(start(10, 50))
	}
	if got := blocks(s); !slices.Equal(got, []uint32{10, 50}) || s.Starts != maxSeen {
		t.Fatalf("after many starts: %v, %d starts", got, s.Starts)
	}
}

func TestMergeJoinsRuns(t *testing.T) {
	s := Set{}.Merge([]Run{{Block: 4, Blocks: 4, At: 2}, {Block: 1, Blocks: 3, At: 1}, {Block: 20, Blocks: 1}})
	want := []Run{{Block: 20, Blocks: 1, Seen: 1}, {Block: 1, Blocks: 7, At: 1, Seen: 1}}
	if !slices.Equal(s.Runs, want) {
		t.Fatalf("runs %+v, want %+v", s.Runs, want)
	}
	// A start that read half of a run splits it, since the halves now differ.
	s = s.Merge([]Run{{Block: 1, Blocks: 2, At: 5}})
	want = []Run{{Block: 20, Blocks: 1, Seen: 1}, {Block: 1, Blocks: 2, At: 1, Seen: 2}, {Block: 3, Blocks: 5, At: 1, Seen: 1}}
	if !slices.Equal(s.Runs, want) || s.Blocks() != 8 {
		t.Fatalf("runs %+v, want %+v", s.Runs, want)
	}
}

func blocks(s Set) []uint32 {
	var out []uint32
	for _, r := range s.Runs {
		for b := r.Block; b < r.Block+r.Blocks; b++ {
			out = append(out, b)
		}
	}
	return out
}

// world is an image of chunks of ten blocks, named by their index, and notes
// what was warmed.
type world struct {
	mu     sync.Mutex
	warmed []byte
}

func (w *world) ChunkAt(_ context.Context, block uint32) (int, thaw.ChunkName, uint32, error) {
	i := int(block / 10)
	if i == 2 {
		return i, thaw.ChunkName{}, 30, nil // zeros
	}
	return i, thaw.ChunkName{byte(i)}, uint32(i+1) * 10, nil
}

func (w *world) Warm(_ context.Context, name thaw.ChunkName) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.warmed = append(w.warmed, name[0])
	return thaw.Errorf("warm", thaw.Unavailable, "each fails, and none stops the others")
}

func TestFetchAsksForEachChunkOnce(t *testing.T) {
	w := &world{}
	s := Set{Starts: 1, Runs: []Run{
		{Block: 500, Blocks: 490, Seen: 1}, // chunks 50 to 98, in one run
		{Block: 995, Blocks: 1, Seen: 1},
	}}
	for i := uint32(1); i < 50; i++ {
		s.Runs = append(s.Runs, Run{Block: i*10 + 1, Blocks: 1, Seen: 1}, Run{Block: i*10 + 7, Blocks: 2, Seen: 1})
	}
	if err := s.Fetch(t.Context(), w, w, nil); err != nil {
		t.Fatal(err)
	}
	slices.Sort(w.warmed)
	if len(w.warmed) != 98 || len(slices.Compact(w.warmed)) != 98 || slices.Contains(w.warmed, 2) {
		t.Errorf("warmed %v", w.warmed)
	}
	// What a pack holds is fetched from there, the rest from the image.
	rest, pack := &world{}, &world{}
	s.Pack = []Packed{{Name: thaw.ChunkName{7}, Blocks: 64}, {Name: thaw.ChunkName{8}, Blocks: 64}}
	if err := s.Fetch(t.Context(), rest, rest, pack); err != nil {
		t.Fatal(err)
	}
	slices.Sort(rest.warmed)
	slices.Sort(pack.warmed)
	if !slices.Equal(pack.warmed, []byte{7, 8}) || slices.Contains(rest.warmed, 61) || !slices.Contains(rest.warmed, 62) || len(rest.warmed) != 98-12 {
		t.Errorf("warmed %v of the pack, %v of the image", pack.warmed, rest.warmed)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	none := &world{}
	if _ = s.Fetch(ended, none, none, nil); len(none.warmed) != 0 {
		t.Errorf("a canceled fetch warmed %v", none.warmed)
	}
}
