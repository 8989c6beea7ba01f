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
		s := Set{Starts: rapid.IntRange(1, maxSeen).Draw(t, "starts"), Items: []Item{}}
		at := time.Duration(0)
		for range rapid.IntRange(0, 50).Draw(t, "items") {
			at += time.Duration(rapid.IntRange(0, 1e6).Draw(t, "after")) * time.Microsecond
			s.Items = append(s.Items, Item{Chunk: rapid.IntRange(0, 999).Draw(t, "chunk"), At: at, Seen: rapid.IntRange(1, maxSeen).Draw(t, "seen")})
		}
		got, err := Decode(s.Encode(), 1000)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, s)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(Set{Starts: 1, Items: []Item{{Chunk: 3, At: time.Millisecond, Seen: 1}}}.Encode())
	f.Add([]byte{version, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b, 100)
		if err != nil {
			if thaw.KindOf(err) != thaw.Corrupt {
				t.Fatalf("error %v is not corrupt", err)
			}
			return
		}
		for _, it := range s.Items {
			if it.Chunk < 0 || it.Chunk >= 100 {
				t.Fatalf("chunk %d of 100", it.Chunk)
			}
		}
	})
}

func TestMergeKeepsWhatStartsRead(t *testing.T) {
	start := func(chunks ...int) []Item {
		var items []Item
		for i, c := range chunks {
			items = append(items, Item{Chunk: c, At: time.Duration(i) * time.Millisecond})
		}
		return items
	}
	s := Set{}.Merge(start(5, 1, 9))
	if got := chunks(s); !slices.Equal(got, []int{5, 1, 9}) || s.Starts != 1 {
		t.Fatalf("after one start: %v, %d starts", got, s.Starts)
	}
	// 7 is read by one of two starts, 9 too: half is enough to stay.
	s = s.Merge(start(1, 5, 7))
	if got := chunks(s); !slices.Equal(got, []int{1, 5, 7, 9}) {
		t.Fatalf("after two starts: %v", got)
	}
	for range 2 * maxSeen {
		s = s.Merge(start(1, 5))
	}
	if got := chunks(s); !slices.Equal(got, []int{1, 5}) || s.Starts != maxSeen {
		t.Fatalf("after many starts: %v, %d starts", got, s.Starts)
	}
}

func chunks(s Set) []int {
	var out []int
	for _, it := range s.Items {
		out = append(out, it.Chunk)
	}
	return out
}

// world names chunk i by its index and notes what was warmed.
type world struct {
	mu     sync.Mutex
	warmed []byte
}

func (w *world) Chunk(_ context.Context, i int) (thaw.ChunkName, int64, error) {
	if i == 2 {
		return thaw.ChunkName{}, 0, nil // zeros
	}
	return thaw.ChunkName{byte(i)}, 1, nil
}

func (w *world) Warm(_ context.Context, name thaw.ChunkName) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.warmed = append(w.warmed, name[0])
	return thaw.Errorf("warm", thaw.Unavailable, "each fails, and none stops the others")
}

func TestFetchAsksForEachChunk(t *testing.T) {
	w := &world{}
	s := Set{Starts: 1}
	for i := 1; i < 100; i++ {
		s.Items = append(s.Items, Item{Chunk: i, Seen: 1})
	}
	s.Fetch(t.Context(), w, w)
	slices.Sort(w.warmed)
	if len(w.warmed) != 98 || slices.Contains(w.warmed, 2) {
		t.Errorf("warmed %v", w.warmed)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	none := &world{}
	if s.Fetch(ended, none, none); len(none.warmed) != 0 {
		t.Errorf("a canceled fetch warmed %v", none.warmed)
	}
}
