// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"thaw.dev/thaw"
)

// logsCmd prints a function's log.
type logsCmd struct {
	tenantFlags
	Name   string `arg:"" help:"Name or ARN of the function."`
	Follow bool   `short:"f" help:"Go on printing what is logged."`
	Tail   int    `short:"n" help:"Print no more than so many of the last lines." placeholder:"LINES"`

	Since time.Duration `help:"Print what was logged within that time up to now, as 10m." placeholder:"TIME"`
}

// Run copies the log to standard output.
func (c *logsCmd) Run(ctx context.Context, std streams) error {
	if c.Tail < 0 || c.Since < 0 {
		return thaw.Errorf("", thaw.Invalid, "--tail and --since can't be negative")
	}
	query := url.Values{"tail": {strconv.Itoa(c.Tail)}}
	if c.Follow {
		query.Set("follow", "1")
	}
	if c.Since > 0 {
		query.Set("since", time.Now().Add(-c.Since).Format(time.RFC3339Nano))
	}
	path := "/v1/tenants/" + url.PathEscape(c.Tenant) + "/functions/" + url.PathEscape(c.Name) + "/logs?" + query.Encode()
	admin, err := c.admin(ctx)
	if err != nil {
		return err
	}
	body, err := admin.stream(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(flushing{std.out}, body)
	if ctx.Err() != nil {
		return nil // the user ended it
	}
	if c.Follow && err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return thaw.Errorf("follow the log of "+c.Name, thaw.Unavailable, "the server has ended")
	}
	return err
}

// flushing hides the destination's ReadFrom, so that each part of a log is
// written as it arrives.
type flushing struct{ io.Writer }
