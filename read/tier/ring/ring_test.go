// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"thaw.dev/thaw"
)

const width = 5

func fleet(n int) []string {
	servers := make([]string, n)
	for i := range servers {
		servers[i] = fmt.Sprintf("10.0.%d.%d:11211", i/250, i%250)
	}
	return servers
}

var sizes = []int{1, 2, 4, 5, 6, 7, 12, 40, 100}

func TestNoServerIsAboveTheBound(t *testing.T) {
	for _, n := range sizes {
		table := New(fleet(n), width)
		load := make([]int, n)
		for slot := range Slots {
			places := table.slot(slot)
			if len(places) != min(width, n) {
				t.Fatalf("%d servers: slot %d has %d places", n, slot, len(places))
			}
			if distinct := slices.Compact(slices.Sorted(slices.Values(places))); len(distinct) != len(places) {
				t.Fatalf("%d servers: slot %d has a server twice: %v", n, slot, places)
			}
			for _, p := range places {
				load[p]++
			}
		}
		even := Slots * min(width, n) / n
		if most := slices.Max(load); most > table.Bound() || table.Bound() > even+even/slack+2 {
			t.Errorf("%d servers: even share %d, bound %d, most %d", n, even, table.Bound(), most)
		}
	}
}

// moved counts the places of a that b does not have, of which mine are those of
// the server that only a knows.
func moved(a, b *Table, only string) (mine, others int) {
	for slot := range Slots {
		in := map[string]bool{}
		for _, p := range b.slot(slot) {
			in[b.servers[p]] = true
		}
		for _, p := range a.slot(slot) {
			switch s := a.servers[p]; {
			case s == only:
				mine++
			case !in[s]:
				others++
			}
		}
	}
	return mine, others
}

// A server that leaves takes its own places along and nothing else moves, but
// for the few that the bound makes move: at most a twentieth of the share.
func TestOnlyTheShareOfOneServerMoves(t *testing.T) {
	for _, n := range sizes {
		if n <= width {
			continue
		}
		servers := fleet(n)
		all := New(servers, width)
		share := Slots * width / n
		for _, gone := range []int{0, n / 2, n - 1} {
			without := slices.Concat(servers[:gone], servers[gone+1:])
			mine, others := moved(all, New(without, width), servers[gone])
			if mine > all.Bound() || others > share/20 {
				t.Errorf("%d servers without %d: its share of %d, %d lost, %d others moved", n, gone, share, mine, others)
			}
		}
	}
}

func TestOrderAndRepetitionDoNotMatter(t *testing.T) {
	servers := fleet(12)
	want := New(servers, width)
	shuffled := slices.Concat(servers, servers[3:7])
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	got := New(shuffled, width)
	if !slices.Equal(got.servers, want.servers) || !slices.Equal(got.places, want.places) {
		t.Error("another order of servers gives other places")
	}
}

// The placement is a format: processes of two versions must agree on it, or one
// does not find what the other stored.
func TestPlacementIsFixed(t *testing.T) {
	table := New(fleet(40), width)
	h := sha256.New()
	if err := binary.Write(h, binary.BigEndian, table.places); err != nil {
		t.Fatal(err)
	}
	const want = "fc3f2b895d562888"
	if got := fmt.Sprintf("%x", h.Sum(nil)[:8]); got != want {
		t.Errorf("the places of 40 servers hash to %s, not %s", got, want)
	}
}

func TestPlaceSpreadsNames(t *testing.T) {
	table := New(fleet(6), width)
	load := make([]int, 6)
	const chunks = 20_000
	for i := range chunks {
		name := thaw.ChunkName(sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))))
		for _, p := range table.Place(name) {
			load[p]++
		}
	}
	even := chunks * width / 6
	if slices.Max(load) > even+even/slack || slices.Min(load) < even-even/slack {
		t.Errorf("even share %d, loads %v", even, load)
	}
}

func TestNoServers(t *testing.T) {
	if places := New(nil, width).Place(thaw.ChunkName{1}); len(places) != 0 {
		t.Errorf("places on no servers: %v", places)
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{6, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			servers := fleet(n)
			for b.Loop() {
				New(servers, width)
			}
		})
	}
}

func BenchmarkPlace(b *testing.B) {
	table := New(fleet(100), width)
	b.ReportAllocs()
	for b.Loop() {
		table.Place(thaw.ChunkName{1, 2, 3})
	}
}
