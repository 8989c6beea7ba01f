// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"thaw.dev/thaw/tenant"
)

// tenantCmd groups the commands on tenants.
type tenantCmd struct {
	Create tenantCreateCmd `cmd:"" help:"Create a tenant and print its account id, access key and secret."`
	List   tenantListCmd   `cmd:"" help:"List the tenants."`
	Show   tenantShowCmd   `cmd:"" help:"Show what a tenant has, and what it may have."`
	Rotate tenantRotateCmd `cmd:"" name:"rotate-keys" help:"Give a tenant a new access key and secret; the old ones stop working at once."`
}

type tenantCreateCmd struct {
	dataFlag
	Name string `arg:"" help:"Name of the tenant: 1 to 32 of a-z, 0-9 and -."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Run creates the tenant.
func (c *tenantCreateCmd) Run(ctx context.Context, std streams) error {
	var account tenant.Account
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodPost, "/v1/tenants", map[string]string{"name": c.Name}, &account); err != nil {
		return err
	}
	return printAccount(std, account, c.JSON)
}

type tenantListCmd struct {
	dataFlag
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists the tenants, without their secrets.
func (c *tenantListCmd) Run(ctx context.Context, std streams) error {
	var accounts []tenant.Account
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodGet, "/v1/tenants", nil, &accounts); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, accounts)
	}
	table := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tACCOUNT\tACCESS KEY\tCREATED")
	for _, a := range accounts {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", a.Name, a.ID, a.AccessKeyID, a.Created.Format("2006-01-02 15:04"))
	}
	return table.Flush()
}

type tenantShowCmd struct {
	dataFlag
	Name string `arg:"" help:"Name or account id of the tenant."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Help is the long form of the command's help.
func (tenantShowCmd) Help() string {
	return `Of images and tags it shows the repository that has most. The flags --max-...
of thaw serve are the limits.`
}

// Run shows the tenant, without its secret.
func (c *tenantShowCmd) Run(ctx context.Context, std streams) error {
	var found tenantQuotas
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodGet, "/v1/tenants/"+url.PathEscape(c.Name)+"/quotas", nil, &found); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, found)
	}
	fmt.Fprintf(std.out, "tenant      %s\naccount     %s\naccess key  %s\ncreated     %s\n\n", found.Name, found.ID, found.AccessKeyID, found.Created.Format("2006-01-02 15:04"))
	table := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "QUOTA\tHAS\tMAY HAVE")
	for _, q := range found.Quotas {
		has, may := fmt.Sprint(q.Used), fmt.Sprint(q.Limit)
		if strings.HasSuffix(q.Name, "-bytes") {
			has, may = humanize.IBytes(uint64(q.Used)), humanize.IBytes(uint64(q.Limit))
		}
		if q.Limit == 0 {
			may = "any"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", q.Name, has, may)
	}
	return table.Flush()
}

type tenantRotateCmd struct {
	dataFlag
	Name string `arg:"" help:"Name or account id of the tenant."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Run replaces the tenant's access key and secret.
func (c *tenantRotateCmd) Run(ctx context.Context, std streams) error {
	var account tenant.Account
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodPost, "/v1/tenants/"+url.PathEscape(c.Name)+"/rotate-keys", nil, &account); err != nil {
		return err
	}
	return printAccount(std, account, c.JSON)
}

func printAccount(std streams, a tenant.Account, asJSON bool) error {
	if asJSON {
		return printJSON(std.out, a)
	}
	_, err := fmt.Fprintf(std.out, "tenant      %s\naccount     %s\naccess key  %s\nsecret      %s\n", a.Name, a.ID, a.AccessKeyID, a.Secret)
	return err
}
