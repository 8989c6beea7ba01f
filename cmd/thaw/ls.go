// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// lsCmd lists the tenant's functions.
type lsCmd struct {
	apiFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists the functions, all pages of them.
func (c *lsCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	functions := []types.FunctionConfiguration{}
	pages := lambda.NewListFunctionsPaginator(s.lambda(), &lambda.ListFunctionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s.plain(err)
		}
		functions = append(functions, page.Functions...)
	}
	if c.JSON {
		return printJSON(std.out, functions)
	}
	table := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tMEMORY\tTIMEOUT\tIMAGE\tMODIFIED")
	for _, f := range functions {
		state := string(f.State)
		if f.LastUpdateStatus == types.LastUpdateStatusInProgress {
			state += " (updating)"
		}
		fmt.Fprintf(table, "%s\t%s\t%d MB\t%d s\t%s\t%s\n", aws.ToString(f.FunctionName), state,
			aws.ToInt32(f.MemorySize), aws.ToInt32(f.Timeout), short(aws.ToString(f.CodeSha256)), aws.ToString(f.LastModified))
	}
	return table.Flush()
}

// short cuts a digest to what people compare.
func short(digest string) string { return digest[:min(12, len(digest))] }
