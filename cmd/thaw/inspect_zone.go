// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/prometheus/client_golang/prometheus"

	"thaw.dev/thaw/read/latency"
	"thaw.dev/thaw/read/tier/l2"
)

// zoneServer is what one server of the zone's cache has answered to this worker.
type zoneServer struct {
	Address  string        `json:"address"`
	State    string        `json:"state"`    // closed: it is asked; open, half-open
	Requests int64         `json:"requests"` // stripes, as all that follows
	Hits     int64         `json:"hits"`
	Bytes    int64         `json:"bytes"`
	Errors   int64         `json:"errors"`
	Bad      int64         `json:"bad"`
	Stored   int64         `json:"stored"`
	P50      time.Duration `json:"p50"` // of an answer, nanoseconds
	P99      time.Duration `json:"p99"`
}

// zoneStats adds to a tier what the zone's cache tells. A server's errors are no
// errors of the tier: the read had its stripes from others, or was a miss.
func zoneStats(s *tierStats, zone *l2.Stats) {
	if zone == nil {
		return
	}
	s.StoredBytes, s.MaxBytes, s.Corrupt = zone.HeldBytes, zone.MaxBytes, zone.Bad
	for _, server := range zone.Servers {
		s.Servers = append(s.Servers, zoneServer{
			Address: server.Address, State: server.State, Requests: server.Requests, Hits: server.Hits, Bytes: server.Bytes,
			Errors: server.Errors, Bad: server.Bad, Stored: server.Stored,
			P50: server.Latency.Quantile(0.5), P99: server.Latency.Quantile(0.99),
		})
	}
}

// printZone prints the servers of the zone's cache, if there are any.
func printZone(w io.Writer, tiers []tierStats) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	begun := false
	for _, t := range tiers {
		for _, s := range t.Servers {
			if !begun {
				fmt.Fprintln(table, "\nSERVER\tBREAKER\tREQUESTS\tHITS\tSERVED\tSTORED\tP50\tP99\tERRORS\tBAD")
				begun = true
			}
			fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%d\t%s\t%s\t%d\t%d\n", s.Address, s.State, s.Requests, s.Hits, humanize.IBytes(uint64(s.Bytes)),
				s.Stored, s.P50.Round(time.Microsecond), s.P99.Round(time.Microsecond), s.Errors, s.Bad)
		}
	}
	return table.Flush()
}

var (
	tierSeconds   = prometheus.NewDesc("thaw_tier_seconds", "Time of a hit, by tier.", []string{"tier"}, nil)
	zoneRequests  = prometheus.NewDesc("thaw_l2_server_requests_total", "Stripes asked of a server of the zone's cache, by outcome (hit, miss, error, bad).", []string{"server", "outcome"}, nil)
	zoneBytes     = prometheus.NewDesc("thaw_l2_server_bytes_total", "Bytes that a server of the zone's cache has given.", []string{"server"}, nil)
	zoneState     = prometheus.NewDesc("thaw_l2_server_state", "1 for the state in which a server's breaker is.", []string{"server", "state"}, nil)
	zoneSeconds   = prometheus.NewDesc("thaw_l2_server_seconds", "Time of an answer of a server of the zone's cache.", []string{"server"}, nil)
	zoneFills     = prometheus.NewDesc("thaw_l2_fills_total", "Chunks stored in the zone's cache, by outcome (stored, repaired, failed, dropped).", []string{"outcome"}, nil)
	zoneDescribed = []*prometheus.Desc{tierSeconds, zoneRequests, zoneBytes, zoneState, zoneSeconds, zoneFills}
)

// collectZone gives the metrics of the zone's cache.
func collectZone(ch chan<- prometheus.Metric, zone *l2.Stats) {
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, s := range zone.Servers {
		counter(zoneRequests, s.Hits, s.Address, "hit")
		counter(zoneRequests, s.Latency.Count-s.Hits, s.Address, "miss")
		counter(zoneRequests, s.Errors, s.Address, "error")
		counter(zoneRequests, s.Bad, s.Address, "bad")
		counter(zoneBytes, s.Bytes, s.Address)
		for _, state := range []string{l2.Closed, l2.Open, l2.HalfOpen} {
			value := 0.0
			if s.State == state {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(zoneState, prometheus.GaugeValue, value, s.Address, state)
		}
		ch <- histogram(zoneSeconds, s.Latency, s.Address)
	}
	counter(zoneFills, zone.Stored, "stored")
	counter(zoneFills, zone.Repaired, "repaired")
	counter(zoneFills, zone.Failed, "failed")
	counter(zoneFills, zone.Dropped, "dropped")
}

// histogram gives a distribution with a bound at each doubling, which are bounds
// of its own buckets too: no count is estimated.
func histogram(d *prometheus.Desc, l latency.Snapshot, labels ...string) prometheus.Metric {
	const first, last = 10, 34 // 2^10 ns, about 1 us, to 17 s
	below := map[float64]uint64{}
	for exp := first; exp <= last; exp++ {
		var n int64
		for _, b := range l.Buckets {
			if b.BelowNanos <= 1<<exp {
				n += b.Count
			}
		}
		below[float64(int64(1)<<exp)/1e9] = uint64(n)
	}
	return prometheus.MustNewConstHistogram(d, uint64(l.Count), float64(l.SumNanos)/1e9, below, labels...)
}
