package e2e

import (
	"context"
	"time"

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

// waitUpdated waits, with AWS's own waiter, until an update has ended.
func (w *world) waitUpdated(ctx context.Context, client *lambda.Client, name string) error {
	return lambda.NewFunctionUpdatedV2Waiter(client, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay = 50 * time.Millisecond
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, waitBound)
}
