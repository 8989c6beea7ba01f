// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/quota"
)

// Quotas returns the bounds of tenants, by tenant.
func (c *Control) Quotas() []*quota.Quota { return []*quota.Quota{c.functions, c.imageBytes} }

// countAll counts what each tenant has.
func (c *Control) countAll(ctx context.Context) error {
	rows, err := c.options.DB.QueryContext(ctx, "SELECT tenant, count(*) FROM control_function GROUP BY tenant")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what failed
	functions := map[thaw.TenantID]int64{}
	for rows.Next() {
		var tenant thaw.TenantID
		var n int64
		if err := rows.Scan(&tenant, &n); err != nil {
			return err
		}
		functions[tenant] = n
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for tenant, n := range functions {
		c.functions.Set(string(tenant), n)
		c.countImages(ctx, tenant)
	}
	return nil
}

// countImages counts the bytes of a tenant's different images. Where that fails,
// what was counted before stands.
func (c *Control) countImages(ctx context.Context, tenant thaw.TenantID) {
	const query = `SELECT coalesce(sum(bytes), 0) FROM (
		SELECT max(json_extract(record, '$.Code.Prepared.Bytes')) AS bytes FROM control_function
		WHERE tenant = ? GROUP BY json_extract(record, '$.Code.Prepared.Image'))`
	var n int64
	if err := c.options.DB.QueryRowContext(ctx, query, string(tenant)).Scan(&n); err != nil {
		c.options.Log.Warn("function: a tenant's images could not be counted", "tenant", tenant, "error", err)
		return
	}
	c.imageBytes.Set(string(tenant), n)
}

// takeFunction counts a function that is to be made.
func (c *Control) takeFunction(op string, tenant thaw.TenantID) error {
	if c.functions.Take(string(tenant), 1) {
		return nil
	}
	return problem(op, thaw.Invalid, CodeStorage,
		"The account has as many functions as it may have, %d: delete some, or ask the operator for more.", c.functions.Limit())
}

// checkImageBytes refuses another image where those of the tenant's functions
// have reached the bound.
func (c *Control) checkImageBytes(op string, tenant thaw.TenantID) error {
	used, _ := c.imageBytes.Used(string(tenant))
	limit := c.imageBytes.Limit()
	if limit == 0 || used < limit {
		return nil
	}
	c.imageBytes.Refuse()
	return problem(op, thaw.Invalid, CodeStorage,
		"Code storage limit exceeded: the images of the account's functions have %d bytes, uncompressed, and may have %d. Delete functions, or ask the operator for more.", used, limit)
}
