// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"thaw.dev/thaw/internal/fair"
)

// share has pools told in the metrics. Everything that tenants share is one.
func (n *node) share(pools ...*fair.Pool) { n.pools = append(n.pools, pools...) }

// shareAll is share for what is no [fair.Pool] and told in one go.
func (n *node) shareAll(usages func() []fair.Usage) { n.usages = append(n.usages, usages) }

// loaderPools asks the loader for its own. One that is being replaced has none.
func (n *node) loaderPools() []fair.Usage {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	stats, err := n.loader.Stats(ctx)
	if err != nil {
		return nil
	}
	return stats.Pools
}

// poolCollector reads the pools at each scrape.
type poolCollector struct{ node *node }

var (
	poolSize    = prometheus.NewDesc("thaw_pool_size", "What a pool that tenants share holds, in its own unit: see docs/threat-model.md.", []string{"pool"}, nil)
	poolHeld    = prometheus.NewDesc("thaw_pool_held", "What is taken of a pool.", []string{"pool"}, nil)
	poolOwners  = prometheus.NewDesc("thaw_pool_owners", "Owners that hold some of a pool, or wait for it.", []string{"pool"}, nil)
	poolWaiting = prometheus.NewDesc("thaw_pool_waiting", "Requests that wait for a pool.", []string{"pool"}, nil)
	poolLongest = prometheus.NewDesc("thaw_pool_longest_wait_seconds", "Age of the oldest request that waits for a pool.", []string{"pool"}, nil)
	poolWaited  = prometheus.NewDesc("thaw_pool_wait_seconds_total", "Time that requests have waited for a pool.", []string{"pool"}, nil)
	poolRefused = prometheus.NewDesc("thaw_pool_refused_total", "Requests that a pool refused, since an owner or all had too much.", []string{"pool"}, nil)
)

// Describe names the metrics.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolSize, poolHeld, poolOwners, poolWaiting, poolLongest, poolWaited, poolRefused} {
		ch <- d
	}
}

// Collect reads the pools.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	var all []fair.Usage
	for _, p := range c.node.pools {
		all = append(all, p.Usage())
	}
	for _, usages := range c.node.usages {
		all = append(all, usages()...)
	}
	for _, u := range all {
		for d, v := range map[*prometheus.Desc]float64{
			poolSize: float64(u.Size), poolHeld: float64(u.Held), poolOwners: float64(u.Owners),
			poolWaiting: float64(u.Waiting), poolLongest: u.LongestWaiter.Seconds(),
		} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, u.Name)
		}
		ch <- prometheus.MustNewConstMetric(poolWaited, prometheus.CounterValue, u.Waited.Seconds(), u.Name)
		ch <- prometheus.MustNewConstMetric(poolRefused, prometheus.CounterValue, float64(u.Refused), u.Name)
	}
}
