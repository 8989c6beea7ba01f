// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"thaw.dev/thaw"
)

func workers(n int) []Worker {
	all := make([]Worker, n)
	for i := range all {
		all[i] = Worker{ID: fmt.Sprintf("worker-%d", i), MemoryMB: 64 << 10, Starts: 1 << 20}
	}
	return all
}

func image(i int) thaw.ImageID {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// choices gives the worker of each look of an image.
func choices(f *Fleet, i int) []string {
	id := image(i)
	var ids []string
	for look := range looks {
		ids = append(ids, f.hosts[f.ring.choice(binary.BigEndian.Uint64(id[:]), look)].ID)
	}
	return ids
}

func TestAnImageStaysOnOneWorkerWhileThereIsRoom(t *testing.T) {
	f := New(workers(100))
	for i := range 20 {
		want, _ := f.Place(image(i), 128)
		for range 9 {
			if h, ok := f.Place(image(i), 128); !ok || h != want {
				t.Fatalf("image %d is on %v and on %v", i, want.ID, h)
			}
		}
	}
}

// A worker that leaves is replaced where it was chosen, and no other choice of
// any image changes; read the other way round, that is what one that joins does.
func TestOnlyTheChoicesOfOneWorkerMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 40).Draw(t, "workers")
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		all := workers(n)
		with, without := New(all), New(slices.Delete(slices.Clone(all), gone, gone+1))
		for i := range 50 {
			a, b := choices(with, i), choices(without, i)
			for look := range looks {
				if a[look] != b[look] && a[look] != all[gone].ID {
					t.Fatalf("image %d, look %d: %s became %s when %s left", i, look, a[look], b[look], all[gone].ID)
				}
			}
		}
	})
}

func TestOrderAndRepetitionDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := workers(rapid.IntRange(1, 40).Draw(t, "workers"))
		other := rapid.Permutation(slices.Concat(all, all[:len(all)/2])).Draw(t, "order")
		a, b := New(all), New(other)
		for i := range 200 {
			x, okX := a.Place(image(i%20), 1024)
			y, okY := b.Place(image(i%20), 1024)
			if okX != okY || okX && x.ID != y.ID {
				t.Fatalf("start %d goes to %v and to %v", i, x, y)
			}
		}
	})
}

// model is a fleet with what was placed on it.
type model struct {
	*Fleet
	starting []*Host
	alive    []placed
}

type placed struct {
	host     *Host
	memoryMB int64
}

// place places one start and checks the promises of Place.
func (m *model) place(t *rapid.T, i int, memoryMB int64) {
	room := slices.ContainsFunc(m.Hosts(), func(h *Host) bool {
		return h.Starting < h.Starts && h.UsedMB+memoryMB <= h.MemoryMB
	})
	h, ok := m.Place(image(i), memoryMB)
	if ok != room {
		t.Fatalf("placed: %v, there is room: %v", ok, room)
	}
	if !ok {
		return
	}
	m.starting = append(m.starting, h)
	m.alive = append(m.alive, placed{h, memoryMB})
}

// check compares the books with what was placed.
func (m *model) check(t *rapid.T) {
	used, starting := map[*Host]int64{}, map[*Host]int{}
	for _, p := range m.alive {
		used[p.host] += p.memoryMB
	}
	for _, h := range m.starting {
		starting[h]++
	}
	var all int64
	for _, h := range m.Hosts() {
		if h.UsedMB != used[h] || h.Starting != starting[h] {
			t.Fatalf("%s has %d MB and %d starts, its books say %d and %d", h.ID, used[h], starting[h], h.UsedMB, h.Starting)
		}
		all += used[h]
	}
	if m.usedMB != all {
		t.Fatalf("%d MB on all workers, the books say %d", all, m.usedMB)
	}
}

func take[T any](t *rapid.T, from *[]T) (T, bool) {
	var none T
	if len(*from) == 0 {
		return none, false
	}
	i := rapid.IntRange(0, len(*from)-1).Draw(t, "which")
	v := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return v, true
}

// Whatever comes and goes: a start is refused exactly if no worker has room, no
// worker bears more than it can, and the books are right.
func TestRefusesExactlyWhereThereIsNoRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]Worker, rapid.IntRange(0, 6).Draw(t, "workers"))
		for i := range all {
			all[i] = Worker{
				ID: fmt.Sprintf("w%d", i), MemoryMB: rapid.Int64Range(0, 4096).Draw(t, "memory"),
				Starts: rapid.IntRange(0, 4).Draw(t, "starts"),
			}
		}
		m := &model{Fleet: New(all)}
		t.Repeat(map[string]func(*rapid.T){
			"place": func(t *rapid.T) {
				m.place(t, rapid.IntRange(0, 3).Draw(t, "image"), rapid.Int64Range(128, 1024).Draw(t, "memory"))
			},
			"started": func(t *rapid.T) {
				if h, ok := take(t, &m.starting); ok {
					m.Started(h)
				}
			},
			"ended": func(t *rapid.T) {
				if p, ok := take(t, &m.alive); ok {
					m.Ended(p.host, p.memoryMB)
				}
			},
			"members": func(t *rapid.T) {
				m.SetWorkers(all[rapid.IntRange(0, len(all)).Draw(t, "from"):])
				m.forgetWhoLeft()
			},
			"": m.check,
		})
	})
}

// forgetWhoLeft drops what is on workers that are gone, after telling the fleet
// of its end, which must not disturb the books.
func (m *model) forgetWhoLeft() {
	gone := func(h *Host) bool { return !slices.Contains(m.Hosts(), h) }
	m.starting = slices.DeleteFunc(m.starting, func(h *Host) bool {
		if gone(h) {
			m.Started(h)
		}
		return gone(h)
	})
	m.alive = slices.DeleteFunc(m.alive, func(p placed) bool {
		if gone(p.host) {
			m.Ended(p.host, p.memoryMB)
		}
		return gone(p.host)
	})
}

// One image in great demand, and many: no worker is loaded beyond the bound.
func TestNoWorkerIsLoadedFarAboveTheMean(t *testing.T) {
	const memoryMB = 64
	for _, images := range []int{1, 10, 10_000} {
		f := New(workers(50))
		random := rand.New(rand.NewPCG(1, uint64(images)))
		for n := int64(1); ; n++ {
			h, ok := f.Place(image(random.IntN(images)), memoryMB)
			if !ok {
				if n*memoryMB < f.memoryMB {
					t.Errorf("%d images: refused at %d of %d MB", images, n*memoryMB, f.memoryMB)
				}
				break
			}
			mean := n * memoryMB / int64(len(f.hosts))
			if bound := max(mean+mean/slack+memoryMB, h.MemoryMB/idle); h.UsedMB > bound {
				t.Fatalf("%d images: %d MB on a worker where the mean is %d", images, h.UsedMB, mean)
			}
		}
	}
}

func TestImagesSpread(t *testing.T) {
	f := New(workers(50))
	load := map[string]int{}
	const images = 50_000
	for i := range images {
		load[choices(f, i)[0]]++
	}
	for id, n := range load {
		if even := images / 50; n < even/2 || n > 2*even {
			t.Errorf("%s is the first choice of %d images, the even share is %d", id, n, even)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	f := New(workers(10_000))
	id := image(1)
	for b.Loop() {
		binary.BigEndian.PutUint64(id[:], mix(binary.BigEndian.Uint64(id[:])))
		if h, ok := f.Place(id, 128); ok {
			f.Started(h)
			f.Ended(h, 128)
		}
	}
}
