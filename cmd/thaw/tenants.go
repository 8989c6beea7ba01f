// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync/atomic"

	"thaw.dev/thaw"
)

// maxWeight is more than anybody needs, and keeps sums in range.
const maxWeight = 1000

// shareFlags say how tenants share the worker.
type shareFlags struct {
	Reserve      int            `help:"Percent of the sandboxes, their memory, starts and the queue that is kept free for tenants that use little of them, in equal parts; 0 keeps nothing. With one tenant nothing is kept." default:"25"`
	TenantWeight map[string]int `help:"The weight of a tenant where tenants share; others weigh 1. May be repeated." placeholder:"NAME=WEIGHT"`
}

// tenants is what the worker has to know of them.
type tenants struct {
	weights atomic.Int64          // of all together
	named   map[thaw.TenantID]int // of --tenant-weight; others weigh 1
}

// weighTenants reads which tenants there are, and whom --tenant-weight names.
func (n *node) weighTenants(ctx context.Context) error {
	accounts, err := n.accounts.List(ctx)
	if err != nil {
		return err
	}
	if n.cmd.Reserve < 0 || n.cmd.Reserve > 50 {
		return thaw.Errorf("", thaw.Invalid, "--reserve %d: it is from 0 to 50 percent", n.cmd.Reserve)
	}
	all := len(accounts)
	n.tenants.named = map[thaw.TenantID]int{}
	for name, weight := range n.cmd.TenantWeight {
		account, err := n.accounts.ByName(ctx, name)
		if err != nil {
			return thaw.Wrap("--tenant-weight "+name, err)
		}
		if weight < 1 || weight > maxWeight {
			return thaw.Errorf("", thaw.Invalid, "--tenant-weight %s=%d: a weight is from 1 to %d", name, weight, maxWeight)
		}
		n.tenants.named[account.ID] = weight
		all += weight - 1
	}
	n.tenants.weights.Store(int64(all))
	return nil
}
