// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// crowd is many invocations in the background.
type crowd struct {
	outcomes chan error
	group    sync.WaitGroup
}

// send invokes a function so many times at once.
func (c *crowd) send(ctx context.Context, client *lambda.Client, name, payload string, times int) {
	if c.outcomes == nil {
		c.outcomes = make(chan error, 100)
	}
	for range times {
		c.group.Go(func() {
			_, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload)})
			c.outcomes <- err
		})
	}
}

// refused waits until so many were refused.
func (c *crowd) refused(t *testing.T, times int) {
	t.Helper()
	for range times {
		select {
		case err := <-c.outcomes:
			e, ok := errors.AsType[*types.TooManyRequestsException](err)
			if !ok || e.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded {
				t.Fatalf("an invocation too many ended with %v", err)
			}
			t.Log(err)
		case <-time.After(waitBound):
			t.Fatal("nobody is refused")
		}
	}
}

// ofMemory is a function's memory, and a timeout beyond the test.
func ofMemory(megabytes int32) func(*lambda.CreateFunctionInput) {
	return func(in *lambda.CreateFunctionInput) {
		in.MemorySize, in.Timeout = aws.Int32(megabytes), aws.Int32(900)
	}
}

// answers invokes a function, which is to be answered whatever goes on beside it.
func (w *world) answers(client *lambda.Client, name, payload string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), waitBound)
	defer cancel()
	begin := time.Now()
	out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload)})
	w.t.Logf("%s: %v", name, time.Since(begin).Round(time.Millisecond))
	if err != nil || out.FunctionError != nil {
		w.t.Fatalf("%s beside others: %+v, %v", name, out, err)
	}
	return string(out.Payload)
}

// TestSlowInitsLeaveStarts: two functions whose init takes for ever don't take
// all starts from another tenant.
func TestSlowInitsLeaveStarts(t *testing.T) {
	w := newWorld(t, "--starts", "4", "--starts-per-function", "2", "--drain-time", "1s", "--admin-listen", "127.0.0.1:0")
	ctx, end := context.WithCancel(t.Context())
	victim := w.tenant("victim")
	slow := func(in *lambda.CreateFunctionInput) {
		ofMemory(128)(in)
		in.Environment = &types.Environment{Variables: map[string]string{"PROBE_INIT": "10m"}}
	}
	ref := w.push("probe:1", "probe:v1")
	w.create(ctx, "slow-1", ref, slow)
	hog := w.create(ctx, "slow-2", ref, slow)
	client := victim.create(ctx, "quick", victim.push("probe:1", "probe:v1"), ofMemory(128))

	var attack crowd
	defer attack.group.Wait()
	defer end()
	attack.send(ctx, hog, "slow-1", `{}`, 4)
	attack.send(ctx, hog, "slow-2", `{}`, 4)
	attack.refused(t, 4) // the others start, and hold what they have
	victim.answers(client, "quick", `{"pid":true}`)
}

// TestSleepersLeaveRoom: a function that sleeps takes neither the idle sandbox of
// another tenant nor all the room there is.
func TestSleepersLeaveRoom(t *testing.T) {
	w := newWorld(t, "--sandboxes", "6", "--drain-time", "1s", "--admin-listen", "127.0.0.1:0")
	ctx, end := context.WithCancel(t.Context())
	victim, third := w.tenant("victim"), w.tenant("third")
	hog := w.create(ctx, "sleeper", w.push("probe:1", "probe:v1"), ofMemory(128))
	client := victim.create(ctx, "warm", victim.push("probe:1", "probe:v1"), ofMemory(128))
	other := third.create(ctx, "new", third.push("probe:1", "probe:v1"), ofMemory(128))
	before := victim.answers(client, "warm", `{"pid":true}`)

	var attack crowd
	defer attack.group.Wait()
	defer end()
	attack.send(ctx, hog, "sleeper", `{"sleep":800}`, 12)
	attack.refused(t, 6)
	if after := victim.answers(client, "warm", `{"pid":true}`); after != before {
		t.Errorf("the idle sandbox was taken: %s, then %s", before, after)
	}
	third.answers(other, "new", `{"pid":true}`)
}

// TestLargeStartIsPassed: a start that does not fit delays none that does.
func TestLargeStartIsPassed(t *testing.T) {
	w := newWorld(t, "--memory-mb", "4000", "--queue-wait", "20s", "--drain-time", "1s", "--admin-listen", "127.0.0.1:0")
	ctx, end := context.WithCancel(t.Context())
	victim, third := w.tenant("victim"), w.tenant("third")
	ref := w.push("probe:1", "probe:v1")
	hog := w.create(ctx, "large", ref, ofMemory(2048))
	sleeper := third.create(ctx, "sleeper", third.push("probe:1", "probe:v1"), ofMemory(2500))
	client := victim.create(ctx, "small", victim.push("probe:1", "probe:v1"), ofMemory(128))

	var attack, busy crowd
	defer attack.group.Wait()
	defer busy.group.Wait()
	defer end()
	busy.send(ctx, sleeper, "sleeper", `{"sleep":800}`, 1)
	w.waitFor("the sleeper to run", func() bool { return w.metric(`thaw_sandboxes{state="busy"}`) == 1 })
	attack.send(ctx, hog, "large", `{}`, 1)
	w.waitFor("the large one to wait", func() bool { return w.metric(`thaw_pool_held{pool="queue"}`) == 1 })
	victim.answers(client, "small", `{"pid":true}`)
	select {
	case err := <-attack.outcomes:
		t.Errorf("the small one had to wait until the large one ended: %v", err)
	default:
	}
}
