// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/memcachedtest"
	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/read/tier/tiertest"
)

func BenchmarkGet(b *testing.B) {
	testkit.RequireTool(b, "memcached")
	servers, err := memcachedtest.StartAll(b.Context(), 6)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		for _, s := range servers {
			s.Kill()
		}
	}()
	l, err := New(Options{Timeout: patience})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if err := l.SetServers(memcachedtest.Addresses(servers)); err != nil {
		b.Fatal(err)
	}
	name, sealed := tiertest.Chunk(1, thaw.MaxChunkBytes)
	l.Put(name, sealed)
	for l.queue.waiting() > 0 {
	}
	b.SetBytes(int64(len(sealed)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := l.Get(b.Context(), name); !ok {
			b.Fatal("a miss")
		}
	}
}
