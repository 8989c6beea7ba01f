// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"thaw.dev/thaw/internal/trace"
)

// traceCmd shows where an invocation's time went.
type traceCmd struct {
	dataFlag
	Invocation string `arg:"" optional:"" help:"The request id, or its beginning: X-Amzn-RequestId of the answer, RequestId in the log. Without one, the last cold starts are listed."`
	JSON       bool   `name:"json" help:"Print JSON; times are nanoseconds."`
}

// Help is the long form of the command's help.
func (traceCmd) Help() string {
	return `A line is a phase: placement (until there was a sandbox, or permission to start one), attach (of
the image: its manifest, the mount), init (sandbox: until the command was executed; runtime
boot: from there until the runtime asked for an invocation), handler. Beside them: reads of
the image while it started, with the first of a file's data, and prefetch, what was fetched
ahead. The table says from which tier chunks came. A start on an image that was mounted
already has no reads of its own.

The server remembers the last 1,000 cold starts, and as many other invocations. It sends
cold starts to OTEL_EXPORTER_OTLP_ENDPOINT, where that is set. See docs/observability.md.`
}

// Run prints one trace, or lists the last.
func (c *traceCmd) Run(ctx context.Context, std streams) error {
	if c.Invocation == "" {
		return c.list(ctx, std)
	}
	var t trace.Trace
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodGet, "/v1/traces/"+url.PathEscape(c.Invocation), nil, &t); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, t)
	}
	s := screenOf(std.out)
	return t.Waterfall(std.out, trace.Screen{Width: s.width, Colors: s.colors})
}

func (c *traceCmd) list(ctx context.Context, std streams) error {
	var all []trace.Trace
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := admin.do(ctx, http.MethodGet, "/v1/traces", nil, &all); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, all)
	}
	table := tabwriter.NewWriter(std.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "REQUEST\tFUNCTION\tBEGAN\tTOOK\tERROR")
	for _, t := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", t.RequestID, t.Function, t.Begin.Format(time.RFC3339), t.Took().Round(10*time.Microsecond), t.Error)
	}
	return table.Flush()
}
