// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw.dev/thaw"
)

// rmCmd deletes functions; their images stay in the registry.
type rmCmd struct {
	apiFlags
	Names []string `arg:"" name:"name" help:"Names or ARNs of the functions."`
}

// Help is the long form of the command's help.
func (rmCmd) Help() string {
	return `Each function is deleted at once, without a question; invocations that are running
finish. One that can't be deleted does not keep the others from it; the status is then 1.

As at Lambda, what belongs to more than the function stays: its log (in logs/ below the
server's data folder), the images that were pushed for it (aws ecr delete-repository
--repository-name NAME --force), and the chunks in the store.`
}

// Run deletes each function and goes on after a failure.
func (c *rmCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	var failed []error
	deleted := 0
	for _, name := range c.Names {
		if _, err := s.lambda().DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String(name)}); err != nil {
			failed = append(failed, s.plain(err))
			if ctx.Err() != nil || thaw.KindOf(failed[0]) == thaw.Unavailable {
				break // nor would the others be reached
			}
			continue
		}
		deleted++
		fmt.Fprintln(std.out, "deleted", name)
	}
	if deleted > 0 {
		fmt.Fprintln(std.err, "The logs, the images in the registry and the chunks in the store stay: see thaw rm --help.")
	}
	return errors.Join(failed...)
}
