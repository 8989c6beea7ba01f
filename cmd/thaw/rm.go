package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// rmCmd deletes functions; their images stay in the registry.
type rmCmd struct {
	apiFlags
	Names []string `arg:"" name:"name" help:"Names or ARNs of the functions."`
}

// Run deletes each function and goes on after a failure.
func (c *rmCmd) Run(ctx context.Context, std streams) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range c.Names {
		if _, err := s.lambda().DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String(name)}); err != nil {
			failed = append(failed, s.plain(err))
			continue
		}
		fmt.Fprintln(std.out, "deleted", name)
	}
	return errors.Join(failed...)
}
