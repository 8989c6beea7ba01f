// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestStartsAreBounded: of a function whose starts are at their bound one
// invocation waits and one is refused in Lambda's words, while another function
// starts and answers.
func TestStartsAreBounded(t *testing.T) {
	w := newWorld(t, "--starts-per-function", "1", "--queue-per-function", "1", "--queue-wait", waitBound.String())
	ctx := t.Context()
	ref := w.push("probe:1", "probe:v1")
	client := w.create(ctx, "slow", ref, func(in *lambda.CreateFunctionInput) {
		in.Environment = &types.Environment{Variables: map[string]string{"PROBE_INIT": "5s"}}
	})
	w.create(ctx, "quick", ref)

	outcomes := make(chan error, 3)
	var group sync.WaitGroup
	for range cap(outcomes) {
		group.Go(func() {
			_, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("slow"), Payload: []byte(`{"pid":true}`)})
			outcomes <- err
		})
	}
	select {
	case err := <-outcomes:
		e, ok := errors.AsType[*types.TooManyRequestsException](err)
		if !ok || e.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded || aws.ToString(e.RetryAfterSeconds) != "1" {
			t.Errorf("the first to end ended with %v, want a refusal (%+v)", err, e)
		}
	case <-time.After(waitBound):
		t.Fatal("nothing ended")
	}
	if got, failed := invoke(ctx, t, client, "quick", `{"print":"x"}`); failed != "" {
		t.Errorf("a function beside: %s, %s", failed, got)
	}
	group.Wait()
	close(outcomes)
	for err := range outcomes {
		if err != nil {
			t.Errorf("it was not to be refused: %v", err)
		}
	}
}
