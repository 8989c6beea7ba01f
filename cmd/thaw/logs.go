package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"thaw.dev/thaw"
)

// logsCmd prints a function's log.
type logsCmd struct {
	tenantFlags
	Name   string `arg:"" help:"Name or ARN of the function."`
	Follow bool   `short:"f" help:"Go on printing what is logged."`
}

// Run copies the log to standard output.
func (c *logsCmd) Run(ctx context.Context, std streams) error {
	path := "/v1/tenants/" + url.PathEscape(c.Tenant) + "/functions/" + url.PathEscape(c.Name) + "/logs"
	if c.Follow {
		path += "?follow=1"
	}
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
