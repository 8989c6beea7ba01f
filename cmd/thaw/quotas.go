// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"net/http"
	"slices"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/registry"
	"thaw.dev/thaw/internal/quota"
	"thaw.dev/thaw/store/bucket"
	"thaw.dev/thaw/tenant"
)

// quotaFlags say how much a tenant may have.
type quotaFlags struct {
	MaxFunctions    int64  `help:"Functions of a tenant. Here and in what follows, 0 is no bound." default:"10000" placeholder:"N"`
	MaxRepositories int64  `help:"Repositories of a tenant." default:"10000" placeholder:"N"`
	MaxImages       int64  `help:"Images of a repository." default:"100000" placeholder:"N"`
	MaxTags         int64  `help:"Tags of a repository." default:"100000" placeholder:"N"`
	MaxUploads      int64  `help:"Uploads that a tenant has under way." default:"1000" placeholder:"N"`
	MaxRegistryMB   *int64 `name:"max-registry-mb" help:"What a tenant stores in the registry, in MB; by default half of the disk of --data." placeholder:"MB"`
	MaxImageMB      *int64 `name:"max-image-mb" help:"The images of a tenant's functions, uncompressed, in MB; by default half of the disk of the origin, and any amount in a bucket." placeholder:"MB"`
	MaxLogMB        int64  `name:"max-log-mb" help:"The logs of a tenant, in MB; the oldest go first." default:"10240" placeholder:"MB"`
}

// check refuses what is no bound.
func (f *quotaFlags) check() error {
	for flag, n := range map[string]int64{
		"functions": f.MaxFunctions, "repositories": f.MaxRepositories, "images": f.MaxImages, "tags": f.MaxTags,
		"uploads": f.MaxUploads, "registry-mb": value(f.MaxRegistryMB), "image-mb": value(f.MaxImageMB), "log-mb": f.MaxLogMB,
	} {
		if n < 0 {
			return thaw.Errorf("serve", thaw.Invalid, "--max-%s %d: it is neither a positive number nor 0, which is no bound", flag, n)
		}
	}
	return nil
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// registryLimits are the bounds of the registry in the data folder.
func (f *quotaFlags) registryLimits(data string) (registry.Limits, error) {
	bytes, err := bytesOr(f.MaxRegistryMB, data)
	return registry.Limits{
		Repositories: f.MaxRepositories, Images: f.MaxImages, Tags: f.MaxTags, Uploads: f.MaxUploads, Bytes: bytes,
	}, err
}

// imageBytes is the bound of functions' images.
func (c *serveCmd) imageBytes() (int64, error) {
	if bucket.IsURL(c.Origin) {
		return value(c.MaxImageMB) << 20, nil
	}
	return bytesOr(c.MaxImageMB, c.location(c.Data))
}

// bytesOr returns MB in bytes, or half of the disk that has a folder: then no
// tenant by itself fills it.
func bytesOr(mb *int64, folder string) (int64, error) {
	if mb != nil {
		return *mb << 20, nil
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(folder, &stat); err != nil {
		return 0, dataError(folder, err)
	}
	return int64(stat.Blocks/2) * stat.Frsize, nil
}

// bound has quotas told in the metrics, and by thaw tenant show.
func (n *node) bound(quotas ...*quota.Quota) { n.quotas = append(n.quotas, quotas...) }

// quotaCollector reads the quotas at each scrape.
type quotaCollector struct{ node *node }

var (
	quotaLimit   = prometheus.NewDesc("thaw_quota_limit", "What a tenant, or a repository, may have (0: no bound), by quota.", []string{"quota"}, nil)
	quotaMost    = prometheus.NewDesc("thaw_quota_most", "What the one has that has most.", []string{"quota"}, nil)
	quotaRefused = prometheus.NewDesc("thaw_quota_refused_total", "Requests that a quota refused; of log-bytes, logs that lost files.", []string{"quota"}, nil)
)

// Describe names the metrics.
func (c *quotaCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{quotaLimit, quotaMost, quotaRefused} {
		ch <- d
	}
}

// Collect reads the quotas.
func (c *quotaCollector) Collect(ch chan<- prometheus.Metric) {
	for _, q := range c.node.quotas {
		u := q.Usage(nil)
		ch <- prometheus.MustNewConstMetric(quotaLimit, prometheus.GaugeValue, float64(u.Limit), u.Name)
		ch <- prometheus.MustNewConstMetric(quotaMost, prometheus.GaugeValue, float64(u.Most), u.Name)
		ch <- prometheus.MustNewConstMetric(quotaRefused, prometheus.CounterValue, float64(u.Refused), u.Name)
	}
}

// tenantQuotas is what a tenant has, and may have.
type tenantQuotas struct {
	tenant.Account
	Quotas []tenantQuota `json:"quotas"`
}

type tenantQuota struct {
	Name  string `json:"name"`
	Used  int64  `json:"used"`
	Limit int64  `json:"limit"` // 0 for none
}

// showTenant answers with a tenant and what it has of each quota.
func (n *node) showTenant(r *http.Request) (any, error) {
	account, err := n.tenant(r)
	if err != nil {
		return nil, err
	}
	account.Secret = ""
	if err := n.registry.CountOwner(r.Context(), string(account.ID)); err != nil {
		return nil, err
	}
	out := tenantQuotas{Account: account}
	for _, q := range n.quotas {
		u := q.Usage(registry.OfOwner(string(account.ID)))
		out.Quotas = append(out.Quotas, tenantQuota{u.Name, u.Most, u.Limit})
	}
	slices.SortFunc(out.Quotas, func(a, b tenantQuota) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
