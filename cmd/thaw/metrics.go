// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/worker"
)

// metrics are what invocations leave behind for /metrics. Names are words of
// the project; units are base units, as Prometheus asks.
type metrics struct {
	registry    *prometheus.Registry
	invocations *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	starts      *prometheus.HistogramVec
	failures    *prometheus.CounterVec
}

// buckets go from a warm invocation on loopback to the longest there is.
var buckets = []float64{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 900}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "thaw_invocations_total", Help: "Invocations by start (cold or warm) and outcome (ok, function_error, refused, failed).",
		}, []string{"start", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thaw_invocation_seconds", Help: "Time from an invocation's arrival at the worker to its answer.", Buckets: buckets,
		}, []string{"start"}),
		starts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "thaw_start_seconds", Help: "Time of a cold start by phase (placement, attach, sandbox, init).", Buckets: buckets,
		}, []string{"phase"}),
	}
	m.failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "thaw_request_failures_total", Help: "Requests that failed for the host's sake, by surface (lambda, registry, ecr, admin) and kind of error.",
	}, []string{"surface", "kind"})
	m.registry.MustRegister(m.invocations, m.duration, m.starts, m.failures,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts one invocation.
func (m *metrics) observe(o worker.Observation) {
	start, outcome := "warm", "ok"
	if o.ColdStart {
		start = "cold"
	}
	switch {
	case thaw.KindOf(o.Err) == thaw.Throttled:
		outcome = "refused"
	case o.Err != nil:
		outcome = "failed"
	case o.ErrorType != "":
		outcome = "function_error"
	}
	m.invocations.WithLabelValues(start, outcome).Inc()
	t := o.Timings
	m.duration.WithLabelValues(start).Observe((t.Queue + t.Attach + t.Sandbox + t.Init + t.Handler).Seconds())
	if !o.ColdStart {
		return
	}
	for phase, took := range map[string]time.Duration{"placement": t.Queue, "attach": t.Attach, "sandbox": t.Sandbox, "init": t.Init} {
		m.starts.WithLabelValues(phase).Observe(took.Seconds())
	}
}

// metricsHandler adds to what is counted here what the loader and the worker
// tell when they are asked.
func (n *node) metricsHandler() http.Handler {
	n.metrics.registry.MustRegister(&liveCollector{node: n}, &poolCollector{node: n}, &quotaCollector{node: n})
	if n.bucket.Bucket != nil {
		n.metrics.registry.MustRegister(&originCollector{node: n})
	}
	return promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// liveCollector reads the tiers and the sandboxes at each scrape.
type liveCollector struct{ node *node }

var (
	tierRequests = prometheus.NewDesc("thaw_tier_requests_total", "Chunks asked of a tier, by outcome (hit, miss, error, corrupt).", []string{"tier", "outcome"}, nil)
	tierBytes    = prometheus.NewDesc("thaw_tier_bytes_total", "Sealed bytes served by a tier.", []string{"tier"}, nil)
	tierStored   = prometheus.NewDesc("thaw_tier_stored_bytes", "Sealed bytes that a tier holds.", []string{"tier"}, nil)
	sandboxes    = prometheus.NewDesc("thaw_sandboxes", "Sandboxes alive, by state (starting, busy, idle).", []string{"state"}, nil)
	tmpBytes     = prometheus.NewDesc("thaw_tmp_bytes", "Bytes of disk that functions' /tmp hold.", nil, nil)
	tmpBound     = prometheus.NewDesc("thaw_tmp_bound_bytes", "What they may hold (--tmp-disk).", nil, nil)
	tmpShort     = prometheus.NewDesc("thaw_tmp_tenants_full", "Tenants whose functions get ENOSPC because they hold as much as is left for all others.", nil, nil)
	tmpFull      = prometheus.NewDesc("thaw_tmp_full", "1 while functions get ENOSPC for want of disk, else 0.", nil, nil)
)

// Describe names the metrics.
func (c *liveCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{tierRequests, tierBytes, tierStored, sandboxes, tmpBytes, tmpBound, tmpShort, tmpFull}, zoneDescribed...) {
		ch <- d
	}
}

// Collect asks the loader and the worker. A loader that is being replaced has
// nothing to tell: its metrics are left out of that scrape.
func (c *liveCollector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	workers := c.node.worker.Stats()
	gauge(sandboxes, workers.Starting, "starting")
	gauge(sandboxes, workers.Idle, "idle")
	gauge(sandboxes, workers.Sandboxes-workers.Starting-workers.Idle, "busy")

	tmp := c.node.tmp.Stats()
	gauge(tmpBytes, int(tmp.Bytes))
	gauge(tmpBound, int(tmp.Bound))
	gauge(tmpShort, tmp.Short)
	gauge(tmpFull, map[bool]int{true: 1}[tmp.Full])

	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	stats, err := c.node.loader.Stats(ctx)
	if err != nil {
		c.node.log.Warn("metrics without the loader's", "error", err)
		return
	}
	for _, t := range stats.Tiers {
		ch <- histogram(tierSeconds, t.Latency, t.Name)
	}
	if stats.L2 != nil {
		collectZone(ch, stats.L2)
	}
	for _, t := range tiersOf(stats) {
		counter(tierRequests, t.Hits, t.Name, "hit")
		counter(tierRequests, t.Requests-t.Hits-t.Errors, t.Name, "miss")
		counter(tierRequests, t.Errors, t.Name, "error")
		counter(tierRequests, t.Corrupt, t.Name, "corrupt")
		counter(tierBytes, t.Bytes, t.Name)
		gauge(tierStored, int(t.StoredBytes), t.Name)
	}
}

// scrapeTimeout bounds the wait for the loader; Prometheus gives up at ten
// seconds by default.
const scrapeTimeout = 5 * time.Second
