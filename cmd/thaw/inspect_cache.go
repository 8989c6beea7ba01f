// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/loader"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/tier/l1"
	"thaw.dev/thaw/read/tier/l2"
)

// tiers asks the loader what its tiers have served.
func (n *node) tiers(ctx context.Context) ([]tierStats, error) {
	stats, err := n.loader.Stats(ctx)
	if err != nil {
		return nil, err
	}
	return tiersOf(stats), nil
}

func tiersOf(stats loader.Stats) []tierStats {
	var tiers []tierStats
	for _, t := range stats.Tiers {
		s := tierStats{
			Name: t.Name, Requests: t.Requests, Hits: t.Hits, Bytes: t.Bytes, Errors: t.Errors,
			P50: t.Latency.Quantile(0.5), P99: t.Latency.Quantile(0.99), Latency: t.Latency,
		}
		if t.Requests > 0 {
			s.HitRate = float64(t.Hits) / float64(t.Requests)
		}
		switch t.Name {
		case l1.MemoryName:
			s.StoredBytes, s.MaxBytes, s.StoredChunks = stats.L1.MemoryBytes, stats.L1.MemoryMax, stats.L1.MemoryChunks
		case l2.Name:
			zoneStats(&s, stats.L2)
		case l1.DiskName:
			s.StoredBytes, s.MaxBytes, s.StoredChunks = stats.L1.DiskBytes, stats.L1.DiskMax, stats.L1.DiskChunks
			s.Corrupt, s.MadeChunks = stats.L1.Corrupt, stats.Offered
		case tier.OriginName:
			s.Corrupt = stats.CorruptAtOrigin + stats.LostAtOrigin
		}
		tiers = append(tiers, s)
	}
	return tiers
}

func (n *node) cacheStats(r *http.Request) (any, error) { return n.tiers(r.Context()) }

// cacheDrop empties what it is asked to: the kernel's caches of idle images, for
// l1 the worker's own cache below them too; or the zone's cache.
func (n *node) cacheDrop(r *http.Request) (any, error) {
	var dropped struct {
		Bytes  int64 `json:"bytes"`
		Images int   `json:"images"`
	}
	tier := r.URL.Query().Get("tier")
	var err error
	if tier == l2.Name {
		dropped.Bytes, err = n.loader.DropL2(r.Context())
		return dropped, err
	}
	if dropped.Images, err = n.loader.DropKernel(r.Context()); err != nil {
		return nil, err
	}
	switch tier {
	case "kernel":
	case "l1":
		if dropped.Bytes, err = n.loader.DropL1(r.Context()); err != nil {
			return nil, err
		}
	default:
		return nil, thaw.Errorf("drop", thaw.Invalid, "there is no tier %q", tier)
	}
	return dropped, nil
}
