// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/base64"

	thaw "thaw.dev/thaw"
)

// maxPage is the most functions that one page lists, at Lambda too.
const maxPage = 50

// TenantsWithImages returns the tenants with a function that has, or had, an
// image: those who must have keys.
func (c *Control) TenantsWithImages(ctx context.Context) ([]thaw.TenantID, error) {
	const op = "list tenants with images"
	rows, err := c.options.DB.QueryContext(ctx, "SELECT DISTINCT tenant FROM control_function WHERE json_extract(record, '$.Code') IS NOT NULL")
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err says what failed
	var tenants []thaw.TenantID
	for rows.Next() {
		var tenant thaw.TenantID
		if err := rows.Scan(&tenant); err != nil {
			return nil, thaw.Wrap(op, err)
		}
		tenants = append(tenants, tenant)
	}
	return tenants, thaw.Wrap(op, rows.Err())
}

// Get returns a function and its name as the ARN of what was asked for. Errors:
// [thaw.NotFound]; [thaw.Invalid] where the name is none.
func (c *Control) Get(ctx context.Context, tenant thaw.TenantID, nameText, qualifier string) (*Function, string, error) {
	const op = "get function"
	n, err := c.parseName(op, tenant, nameText, qualifier)
	if err != nil {
		return nil, "", err
	}
	if n.qualifier != "" && n.qualifier != Latest {
		return nil, "", c.notFound(op, tenant, n)
	}
	f, err := load(ctx, c.options.DB, key{tenant, n.bare})
	if err != nil {
		return nil, "", c.word(op, tenant, n, err)
	}
	return f, c.ARN(tenant, n.bare, n.qualifier), nil
}

// List returns a tenant's functions in the order of their names: at most n, and
// never more than 50, from where marker says. next is the marker of the next
// page, "" after the last one. A function is on one page however many are made
// or deleted meanwhile.
func (c *Control) List(ctx context.Context, tenant thaw.TenantID, marker string, n int) (page []*Function, next string, err error) {
	const op = "list functions"
	after, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil {
		return nil, "", invalid(op, "Invalid pagination token: it is not one that ListFunctions returned.")
	}
	n = min(max(n, 1), maxPage)
	if page, err = c.page(ctx, tenant, string(after), n+1); err != nil {
		return nil, "", thaw.Wrap(op, err)
	}
	if len(page) > n {
		page = page[:n]
		next = base64.RawURLEncoding.EncodeToString([]byte(page[n-1].Name))
	}
	return page, next, nil
}

// Count returns how many functions a tenant has.
func (c *Control) Count(ctx context.Context, tenant thaw.TenantID) (int, error) {
	var n int
	err := c.options.DB.QueryRowContext(ctx, "SELECT count(*) FROM control_function WHERE tenant = ?", string(tenant)).Scan(&n)
	return n, thaw.Wrap("count functions", err)
}

// Images returns the image that serves each function of all tenants, for what
// must not delete them. Each is named once per function.
func (c *Control) Images(ctx context.Context) ([]thaw.ImageID, error) {
	functions, err := c.query(ctx, "SELECT record FROM control_function")
	if err != nil {
		return nil, thaw.Wrap("list images of functions", err)
	}
	var images []thaw.ImageID
	for _, f := range functions {
		if f.Code != nil {
			images = append(images, f.Code.Prepared.Image)
		}
	}
	return images, nil
}

// Tag adds tags to a function and replaces those of the same keys; it drops
// the keys in untag first. The name must not have a qualifier: tags belong to
// the function.
func (c *Control) Tag(ctx context.Context, tenant thaw.TenantID, nameText string, tags map[string]string, untag []string) error {
	const op = "tag function"
	n, err := c.parseName(op, tenant, nameText, "")
	if err != nil {
		return err
	}
	if n.qualifier != "" {
		return invalid(op, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	_, err = c.modify(ctx, key{tenant, n.bare}, func(f *Function) error {
		for _, key := range untag {
			delete(f.Tags, key)
		}
		if f.Tags == nil {
			f.Tags = make(map[string]string, len(tags))
		}
		for key, value := range tags {
			f.Tags[key] = value
		}
		return validateTags(op, f.Tags)
	})
	return c.word(op, tenant, n, err)
}
