// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/internal/memcachedtest"
	"thaw.dev/thaw/internal/testkit"
)

// tierCounts is what thaw cache stats tells of a tier, in part.
type tierCounts struct {
	Name                 string
	Requests, Hits       int64
	Bytes                int64
	Servers              []struct{ Stored, Hits int64 }
	StoredBytes, Corrupt int64
}

func (w *world) tier(name string) tierCounts {
	w.t.Helper()
	var tiers []tierCounts
	if err := w.ThawJSON(w.t.Context(), &tiers, "cache", "stats"); err != nil {
		w.t.Fatal(err)
	}
	for _, t := range tiers {
		if t.Name == name {
			return t
		}
	}
	w.t.Fatalf("thaw cache stats names no %s: %+v", name, tiers)
	return tierCounts{}
}

func (w *world) thaw(args ...string) string {
	w.t.Helper()
	out, err := w.Thaw(w.t.Context(), args...)
	if err != nil {
		w.t.Fatalf("thaw %v: %v", args, err)
	}
	return out
}

// TestZoneCache: a start on a worker without anything cached takes its chunks
// from the zone's servers, with one of them dead too; and from the origin again
// when the zone's cache was dropped.
func TestZoneCache(t *testing.T) {
	testkit.RequireTool(t, "memcached")
	servers, err := memcachedtest.StartAll(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, s := range servers {
			s.Kill()
		}
	}()
	w := newWorld(t, "--l2", strings.Join(memcachedtest.Addresses(servers), ","))
	ctx := t.Context()
	client := w.create(ctx, "hello", w.push("go-hello:1", "hello:v1"))
	round := 0
	start := func() { // a cold one
		t.Helper()
		if round > 0 {
			w.cold(ctx, client, "hello", round)
		}
		round++
		if answer, failed := invoke(ctx, t, client, "hello", `{"name":"zone"}`); failed != "" {
			t.Fatalf("%s: %s", failed, answer)
		}
	}
	start()
	for w.tier("l2").StoredBytes == 0 && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
	}
	origin := w.tier("origin").Requests
	servers[0].Kill()
	start()
	zone := w.tier("l2")
	if zone.Hits == 0 || zone.Corrupt != 0 || len(zone.Servers) != 6 {
		t.Errorf("after a start with a warm zone: %+v", zone)
	}
	if now := w.tier("origin").Requests; now-origin > zone.Hits/4 {
		t.Errorf("the origin was asked for %d chunks, the zone gave %d", now-origin, zone.Hits)
	}
	if out, err := w.Thaw(ctx, "cache", "drop", "l2"); err == nil { // one server is dead
		t.Errorf("drop l2 without a server: %s", out)
	}
	start()
	if again := w.tier("l2"); again.Hits > zone.Hits {
		t.Errorf("%d hits after the drop", again.Hits-zone.Hits)
	}
}
