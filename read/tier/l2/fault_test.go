// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/stripe"
	"thaw.dev/thaw/internal/memcachedtest"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l2/memcached"
	"thaw.dev/thaw/read/tier/tiertest"
	"thaw.dev/thaw/store"
)

// What happens to one of six servers while reads run: no read fails, none is
// wrong, and those that the zone cache does not serve are no more than that
// server's share. No timeout ends in this test, so no read waits for one.
func TestOneServerFailsWhileReadsRun(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, s *memcachedtest.Server){
		"Killed": func(_ *testing.T, s *memcachedtest.Server) { s.Kill() },
		"Paused": func(t *testing.T, s *memcachedtest.Server) {
			if err := s.Pause(); err != nil {
				t.Error(err)
			}
		},
		"RestartedEmpty": func(t *testing.T, s *memcachedtest.Server) {
			if err := s.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"Flushed": func(t *testing.T, s *memcachedtest.Server) {
			if err := direct(t, s.Address).FlushAll(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"FedWithGarbage": func(t *testing.T, s *memcachedtest.Server) {
			c := direct(t, s.Address)
			for i := range readers * chunksEach {
				name, sealed := tiertest.Chunk(uint64(i), chunkBytes)
				put(t, c, name, garbage(t, i, sealed))
			}
		},
	} {
		t.Run(name, func(t *testing.T) { oneServerFails(t, fault) })
	}
}

const (
	readers    = 4
	chunksEach = 25
	rounds     = 6
	chunkBytes = 60_000
)

func oneServerFails(t *testing.T, fault func(*testing.T, *memcachedtest.Server)) {
	all := servers(t, 6)
	l := open(t, Options{}, memcachedtest.Addresses(all))
	origin := store.NewMem()
	for i := range readers * chunksEach {
		name, sealed := tiertest.Chunk(uint64(i), chunkBytes)
		if err := origin.Put(t.Context(), sealed.Named()); err != nil {
			t.Fatal(err)
		}
		l.Put(name, sealed)
	}
	if err := origin.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	settle(t, l)
	stack := tier.New(tier.Options{Caches: []tier.Level{{Name: "none", Cache: nothing{}}, {Name: Name, Cache: l, Far: true}}, Origin: origin})
	var group, firstRound sync.WaitGroup
	firstRound.Add(readers)
	for r := range readers {
		group.Go(func() {
			for round := range rounds {
				for i := range chunksEach {
					name, sealed := tiertest.Chunk(uint64(r*chunksEach+i), chunkBytes)
					if got, err := stack.Get(t.Context(), name); err != nil || !bytes.Equal(got, sealed) {
						t.Errorf("read %d of round %d: %d bytes, %v", i, round, len(got), err)
					}
				}
				if round == 0 {
					firstRound.Done()
				}
			}
		})
	}
	firstRound.Wait()
	fault(t, all[2])
	group.Wait()
	st := stack.Stats()
	zone := st.Find(Name)
	if zone.Requests != readers*chunksEach*rounds || zone.Hits < zone.Requests*5/6 {
		t.Errorf("%d hits of %d requests: %+v", zone.Hits, zone.Requests, l.Stats(t.Context()))
	}
}

// nothing is a nearer tier that has nothing.
type nothing struct{}

func (nothing) Get(context.Context, thaw.ChunkName) (thaw.SealedChunk, bool) { return nil, false }
func (nothing) Put(thaw.ChunkName, thaw.SealedChunk)                         {}
func (nothing) Warm(thaw.ChunkName) bool                                     { return false }

// direct is a connection beside the cache's.
func direct(t *testing.T, address string) *memcached.Conn {
	t.Helper()
	c := memcached.Open(memcached.Options{Address: address, Timeout: patience, MaxInFlight: 10, MaxValueBytes: maxValueBytes})
	t.Cleanup(c.Close)
	return c
}

func put(t *testing.T, c *memcached.Conn, name thaw.ChunkName, value []byte) {
	t.Helper()
	if err := c.Set(t.Context(), keyOf(name), value, nil); err != nil {
		t.Error(err)
	}
}

// garbage returns one of the values that are not the stripe of a chunk.
func garbage(t *testing.T, kind int, sealed thaw.SealedChunk) []byte {
	t.Helper()
	coder, err := stripe.NewCoder(Striped)
	if err != nil {
		t.Fatal(err)
	}
	value := func(sealed thaw.SealedChunk, index int) []byte {
		stripes, err := coder.Split(sealed)
		if err != nil {
			t.Fatal(err)
		}
		return append(stripe.Header{Layout: Striped, Index: index, ChunkBytes: len(sealed)}.Append(nil), stripes[index]...)
	}
	good := value(sealed, kind%5)
	switch kind % 8 {
	case 0: // wrong bytes
		good[len(good)-1] ^= 1
		return good
	case 1: // truncated
		return good[:len(good)-1]
	case 2: // another chunk's stripe
		_, other := tiertest.Chunk(7_000_000, len(sealed))
		return value(other, kind%5)
	case 3: // that of a chunk of another length
		_, other := tiertest.Chunk(7_000_001, len(sealed)+1000)
		return value(other, kind%5)
	case 4: // oversized
		return make([]byte, 900_000)
	case 5:
		return nil
	case 6: // of another layout
		return append(stripe.Header{Layout: Whole, ChunkBytes: len(sealed)}.Append(nil), sealed...)
	default: // another stripe of the same chunk, so that two servers have it
		return value(sealed, (kind+1)%5)
	}
}

// Every kind of garbage in the place of every stripe of a chunk is found, never
// served, and replaced; and where two servers of a chunk have it, the chunk is
// a miss that the next fill puts right.
func TestGarbageIsFoundAndReplaced(t *testing.T) {
	all := servers(t, 5)
	l := open(t, Options{}, memcachedtest.Addresses(all))
	f := l.fleet.Load()
	seed := 0
	for kind := range 8 {
		for position := range 5 {
			for _, twice := range []bool{false, true} {
				seed++
				name, sealed := tiertest.Chunk(uint64(seed), 30_001)
				l.Put(name, sealed)
				settle(t, l)
				places := f.table.Place(name)
				spoil := func(position int) {
					put(t, direct(t, f.servers[places[position]].address), name, garbage(t, 40+kind, sealed))
				}
				spoil(position)
				if twice {
					spoil((position + 1) % 5)
				}
				got, ok := l.Get(t.Context(), name)
				if ok && !bytes.Equal(got, sealed) {
					t.Fatalf("kind %d in place %d, twice %v: wrong bytes", kind, position, twice)
				}
				if !ok && !twice {
					t.Errorf("kind %d in place %d is a miss", kind, position)
				}
				if !ok {
					l.Put(name, sealed)
				}
				settle(t, l)
				intact(t, l, name, sealed)
			}
		}
	}
	if st := l.Stats(t.Context()); st.Bad == 0 || st.Salvages == 0 || st.Unverified == 0 || st.Repaired == 0 {
		t.Errorf("%+v", st)
	}
}

// intact looks until all five servers have what they should. A read may not be
// enough, as a wrong stripe that comes last is not looked at.
func intact(t *testing.T, l *L2, name thaw.ChunkName, sealed thaw.SealedChunk) {
	t.Helper()
	f := l.fleet.Load()
	for range 20 {
		if got, ok := l.Get(t.Context(), name); !ok || !bytes.Equal(got, sealed) {
			t.Fatalf("after the repair: %d bytes, %v", len(got), ok)
		}
		settle(t, l)
		answers, _, _ := l.collect(t.Context(), f, name, keyOf(name))
		if len(answers) == 5 && allFit(f.coder, answers, sealed) {
			return
		}
		if got, ok := l.salvage(t.Context(), f, name, keyOf(name)); !ok || !bytes.Equal(got, sealed) {
			t.Fatalf("looking again: %d bytes, %v", len(got), ok)
		}
		settle(t, l)
	}
	t.Error("a wrong stripe is still there")
}

// allFit reports whether each four of five answers make the chunk.
func allFit(c *stripe.Coder, answers []*answer, sealed thaw.SealedChunk) bool {
	for out := range answers {
		set := slices.Delete(slices.Clone(answers), out, out+1)
		if got, _, ok := joinSet(c, set); !ok || !bytes.Equal(got, sealed) {
			return false
		}
	}
	return true
}

// A server that joins is filled by reads that are hits; one that leaves costs
// none.
func TestServersJoinAndLeave(t *testing.T) {
	all := memcachedtest.Addresses(servers(t, 7))
	l := open(t, Options{}, all[:6])
	names := fillWith(t, l, 200)
	for name, fleet := range map[string][]string{"joined": all, "left": all[1:]} {
		if err := l.SetServers(fleet); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if n := hits(t, l, names); n != len(names) {
				t.Errorf("%s: %d hits of %d", name, n, len(names))
			}
			settle(t, l)
		}
	}
	st := l.Stats(t.Context())
	for _, s := range st.Servers {
		if s.Address == all[6] && s.Stored < int64(len(names))/2 {
			t.Errorf("the server that joined has %d of %d stripes", s.Stored, len(names)*5/7)
		}
	}
}

// With fewer than five servers a dead one costs exactly the chunks it had.
func TestFewServers(t *testing.T) {
	all := servers(t, 3)
	l := open(t, Options{}, memcachedtest.Addresses(all))
	names := fillWith(t, l, 60)
	if n := hits(t, l, names); n != len(names) {
		t.Errorf("%d hits of %d", n, len(names))
	}
	f := l.fleet.Load()
	had := 0
	for _, name := range names {
		if f.servers[f.table.Place(name)[0]].address == all[0].Address {
			had++
		}
	}
	all[0].Kill()
	if n := hits(t, l, names); n != len(names)-had || had == 0 {
		t.Errorf("%d hits of %d without a server that had %d", n, len(names), had)
	}
	if err := l.SetServers(nil); err != nil {
		t.Fatal(err)
	}
	if n := hits(t, l, names); n != 0 {
		t.Errorf("%d hits without servers", n)
	}
}

// Chunks beyond the servers' memory are served from their disks.
func TestExtstore(t *testing.T) {
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // the servers run as nobody
			t.Fatal(err)
		}
	}
	var all []string
	for i := range 6 {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o777); err != nil { // whatever the umask
			t.Fatal(err)
		}
		option := "ext_path=" + path + "/flash:128M,ext_item_size=512,ext_item_age=0,ext_wbuf_size=2"
		all = append(all, servers(t, 1, "-m", "16", "-o", option)[0].Address)
	}
	l := open(t, Options{}, all)
	var names []thaw.ChunkName
	for i := range 900 { // 25 MB a server, of which memory holds 16
		name, sealed := tiertest.Chunk(uint64(i), thaw.MaxChunkBytes/2+i)
		l.Put(name, sealed)
		names = append(names, name)
		if i%50 == 49 {
			settle(t, l)
		}
	}
	fromDisk := func() (n int) {
		for _, address := range all {
			stats, err := direct(t, address).Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			count, _ := strconv.Atoi(stats["get_extstore"])
			n += count
		}
		return n
	}
	for range 20 { // they write to disk when they find the time
		if fromDisk() > 0 {
			break
		}
		if n := hits(t, l, names); n < len(names)*3/4 {
			t.Errorf("%d hits of %d", n, len(names))
			break
		}
	}
	if fromDisk() == 0 {
		t.Error("nothing was served from disk")
	}
}

func TestFullQueueDrops(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	const chunks, queueBytes = 100, 100_000
	names, sealed := make([]thaw.ChunkName, chunks), make([]thaw.SealedChunk, chunks)
	for i := range names {
		names[i], sealed[i] = tiertest.Chunk(uint64(i), 30_000)
	}
	const timeout = 100 * time.Millisecond // the queue is full long before
	l := open(t, Options{QueueBytes: queueBytes, Timeout: timeout, SlowAfter: timeout}, []string{silent.Addr().String()})
	for i := range names {
		l.Put(names[i], sealed[i])
		if w := l.queue.waiting(); w > queueBytes {
			t.Fatalf("%d bytes wait", w)
		}
	}
	settle(t, l)
	if st := l.Stats(t.Context()); st.Dropped == 0 || st.Dropped+st.Failed != chunks {
		t.Errorf("%+v", st)
	}
}

func TestDrop(t *testing.T) {
	all := servers(t, 6)
	l := open(t, Options{}, memcachedtest.Addresses(all))
	names := fillWith(t, l, 30)
	if err := l.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := hits(t, l, names); n != 0 {
		t.Errorf("%d hits after the drop", n)
	}
	all[0].Kill()
	if err := l.Drop(t.Context()); err == nil {
		t.Error("a server that is dead was emptied")
	}
}

func TestCloseWhileReadsRun(t *testing.T) {
	all := servers(t, 6)
	l := open(t, Options{}, memcachedtest.Addresses(all))
	names := fillWith(t, l, 20)
	inner, err := New(Options{Timeout: patience, Log: l.opts.Log})
	if err != nil {
		t.Fatal(err)
	}
	if err := inner.SetServers(memcachedtest.Addresses(all)); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	started := make(chan struct{}, readers)
	for range readers {
		group.Go(func() {
			hits(t, inner, names)
			started <- struct{}{}
			hits(t, inner, names)
		})
	}
	<-started
	if err := inner.Close(); err != nil {
		t.Error(err)
	}
	group.Wait()
}
