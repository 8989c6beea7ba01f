// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"thaw.dev/thaw/read/latency"
)

// cacheCmd groups the commands on the caches.
type cacheCmd struct {
	Stats cacheStatsCmd `cmd:"" help:"Show requests, hits, bytes and latencies of each tier."`
	Drop  cacheDropCmd  `cmd:"" help:"Empty a tier, so that the next start is a cold one; running sandboxes are not disturbed."`
}

// tierStats is what one tier has served since the loader's start.
type tierStats struct {
	Name        string        `json:"name"`
	Requests    int64         `json:"requests"`
	Hits        int64         `json:"hits"`
	Bytes       int64         `json:"bytes"` // served
	Errors      int64         `json:"errors"`
	Corrupt     int64         `json:"corrupt"`
	StoredBytes int64         `json:"storedBytes"` // held now
	MaxBytes    int64         `json:"maxBytes"`
	P50         time.Duration `json:"p50"` // of a hit, nanoseconds
	P99         time.Duration `json:"p99"`
	HitRate     float64       `json:"hitRate"` // hits by requests; 0 where there were none

	StoredChunks int   `json:"storedChunks,omitempty"` // held now, of L1
	MadeChunks   int64 `json:"madeChunks,omitempty"`   // of L1's disk: packs made here, which no other tier gave

	Latency latency.Snapshot `json:"latency"`           // of hits, all buckets
	Servers []zoneServer     `json:"servers,omitempty"` // of l2
}

type cacheStatsCmd struct {
	dataFlag
	JSON bool `name:"json" help:"Print JSON."`
}

// Run prints the tiers in the order in which they are asked.
func (c *cacheStatsCmd) Run(ctx context.Context, std streams) error {
	var tiers []tierStats
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodGet, "/v1/cache", nil, &tiers); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, tiers)
	}
	table := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TIER\tREQUESTS\tHITS\tHIT RATE\tSERVED\tHELD\tP50\tP99\tERRORS\tCORRUPT")
	for _, t := range tiers {
		rate := "-"
		if t.Requests > 0 {
			rate = fmt.Sprintf("%.1f %%", 100*t.HitRate)
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", t.Name, t.Requests, t.Hits, rate,
			humanize.IBytes(uint64(t.Bytes)), humanize.IBytes(uint64(t.StoredBytes)), t.P50.Round(time.Microsecond), t.P99.Round(time.Microsecond), t.Errors, t.Corrupt)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return printZone(std.out, tiers)
}

type cacheDropCmd struct {
	dataFlag
	Tier string `arg:"" help:"What to empty: kernel, the kernel's caches of images that no sandbox uses; l1, these and the worker's own disk and memory; l2, the zone's memcached servers, for all workers." enum:"l1,l2,kernel"`
}

// Run empties the tier.
func (c *cacheDropCmd) Run(ctx context.Context, std streams) error {
	var dropped struct {
		Bytes  int64 `json:"bytes"`
		Images int   `json:"images"`
	}
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodPost, "/v1/cache/drop?tier="+c.Tier, nil, &dropped); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "dropped %s of chunks and the kernel's caches of %d idle images\n",
		humanize.IBytes(uint64(dropped.Bytes)), dropped.Images)
	return err
}
