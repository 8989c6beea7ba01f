// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"log/slog"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/memcachedtest"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/tiertest"
)

var _ tier.Cache = (*L2)(nil)

// patience is a timeout that no test outlives. So whatever ends in a test did
// not wait for a server that does not answer.
const patience = time.Hour

func servers(t *testing.T, n int, args ...string) []*memcachedtest.Server {
	t.Helper()
	testkit.RequireTool(t, "memcached")
	all, err := memcachedtest.StartAll(t.Context(), n, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range all {
			s.Kill()
		}
	})
	return all
}

func open(t *testing.T, o Options, addresses []string) *L2 {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout, o.SlowAfter = patience, patience
	}
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.SetServers(addresses); err != nil {
		t.Fatal(err)
	}
	return l
}

// settle waits until nothing waits to be stored.
func settle(t *testing.T, l *L2) {
	t.Helper()
	for l.queue.waiting() > 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("the writers do not come to an end")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestSuite(t *testing.T) {
	for name, n := range map[string]int{"Striped": 6, "Whole": 2} {
		t.Run(name, func(t *testing.T) {
			tiertest.Cache(t, func(t *testing.T) tiertest.Opened {
				l := open(t, Options{}, memcachedtest.Addresses(servers(t, n)))
				return tiertest.Opened{Cache: l, Settle: func() { settle(t, l) }}
			})
		})
	}
}

// fill stores n chunks and returns their names.
func fillWith(t *testing.T, l *L2, n int) []thaw.ChunkName {
	t.Helper()
	var names []thaw.ChunkName
	for i := range n {
		name, sealed := tiertest.Chunk(uint64(1000+i), 40_000+i)
		l.Put(name, sealed)
		names = append(names, name)
	}
	settle(t, l)
	if st := l.Stats(t.Context()); st.Stored != int64(n) || st.HeldBytes < int64(n)*40_000 {
		t.Fatalf("after storing %d chunks: %+v", n, st)
	}
	return names
}

// hits gets every chunk once and returns how many were there; none is wrong.
func hits(t *testing.T, l *L2, names []thaw.ChunkName) int {
	t.Helper()
	n := 0
	for _, name := range names {
		sealed, ok := l.Get(t.Context(), name)
		if ok && thaw.NameOf(sealed) != name {
			t.Errorf("wrong bytes for %s", name)
		}
		if ok {
			n++
		}
	}
	return n
}
