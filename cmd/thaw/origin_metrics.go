// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"

	"github.com/prometheus/client_golang/prometheus"

	"thaw.dev/thaw/store/bucket"
)

// originCollector reads, at each scrape, what has been asked of a bucket: by the
// server, and by the loader.
type originCollector struct{ node *node }

var (
	originRequests = prometheus.NewDesc("thaw_origin_requests_total",
		"Requests to the object store, by process (server, loader), operation (get, head, put, delete, list) and result.", []string{"process", "operation", "result"}, nil)
	originBytes = prometheus.NewDesc("thaw_origin_bytes_total",
		"Bytes of the bodies of requests to the object store (put) and of their answers (get).", []string{"process", "operation", "result"}, nil)
	originRetries = prometheus.NewDesc("thaw_origin_retries_total", "Requests that were made again.", []string{"process"}, nil)
	originRefused = prometheus.NewDesc("thaw_origin_retries_refused_total", "Retries not made because the budget was spent: an outage.", []string{"process"}, nil)
	originBudget  = prometheus.NewDesc("thaw_origin_retry_budget", "Retries that may be made before successes pay for more.", []string{"process"}, nil)
	originBusy    = prometheus.NewDesc("thaw_origin_requests_under_way", "Requests at this moment; --origin-concurrency is the bound.", []string{"process"}, nil)
)

// Describe names the metrics.
func (c *originCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{originRequests, originBytes, originRetries, originRefused, originBudget, originBusy} {
		ch <- d
	}
}

// Collect asks both processes. A loader that is being replaced has nothing to
// tell.
func (c *originCollector) Collect(ch chan<- prometheus.Metric) {
	collectBucket(ch, "server", c.node.bucket.Stats())
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	stats, err := c.node.loader.Stats(ctx)
	if err != nil {
		return // liveCollector tells it
	}
	var reads bucket.Stats
	if err := json.Unmarshal(stats.Origin, &reads); err != nil {
		c.node.log.Warn("metrics without the loader's requests to the origin", "error", err)
		return
	}
	collectBucket(ch, "loader", reads)
}

func collectBucket(ch chan<- prometheus.Metric, process string, s bucket.Stats) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{process}, labels...)...)
	}
	for _, r := range s.Requests {
		send(originRequests, prometheus.CounterValue, float64(r.Requests), r.Operation, r.Result)
		send(originBytes, prometheus.CounterValue, float64(r.Bytes), r.Operation, r.Result)
	}
	send(originRetries, prometheus.CounterValue, float64(s.Retries))
	send(originRefused, prometheus.CounterValue, float64(s.RetriesRefused))
	send(originBudget, prometheus.GaugeValue, s.RetryBudget)
	send(originBusy, prometheus.GaugeValue, float64(s.UnderWay))
}
