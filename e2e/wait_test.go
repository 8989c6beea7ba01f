// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// waitBound bounds a wait; it guards against hanging.
const waitBound = 3 * time.Minute

// waitActive waits, with AWS's own waiter, until a new function can be invoked.
func (w *world) waitActive(ctx context.Context, client *lambda.Client, name string) error {
	return lambda.NewFunctionActiveV2Waiter(client, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay = 50 * time.Millisecond
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, waitBound)
}

// invocation is a plain call of a function.
func invocation(name string) *lambda.InvokeInput {
	return &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`)}
}

// describe changes a function's configuration, so that its next invocation is
// a cold start.
func describe(name string, round int) *lambda.UpdateFunctionConfigurationInput {
	return &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Description: aws.String(fmt.Sprint("round ", round))}
}
