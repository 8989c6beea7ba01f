// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw/internal/livetest"
)

// abuser is a tenant, or a stranger where a scenario uses no credentials.
type abuser struct {
	order
	i      int
	creds  livetest.Credentials
	client *lambda.Client
	notes  *notes
	small  layer // of an image that was pushed already

	mu        sync.Mutex // guards what follows
	functions map[string]bool
	closing   []func()
}

// pause is between an abuser's tries after a refusal.
const pause = 10 * time.Millisecond

func newAbuser(o order, i int, creds livetest.Credentials, notes *notes) *abuser {
	server := &livetest.Server{Endpoint: o.Endpoint, Region: o.Region}
	return &abuser{order: o, i: i, creds: creds, client: server.Lambda(creds), notes: notes, functions: map[string]bool{}}
}

// host is the server's host and port.
func (a *abuser) host() string {
	u, err := url.Parse(a.Endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// note notes an error that is the server's, and not that of the abuse's end.
func (a *abuser) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		a.notes.add(plain(err))
	}
}

// function is what an abuser makes a function with.
type function struct {
	name     string
	memoryMB int32
	env      map[string]string
	image    string // reference; the abusers' program without
}

// create makes a function, without waiting for it.
func (a *abuser) create(ctx context.Context, f function) error {
	if f.memoryMB == 0 {
		f.memoryMB = 128
	}
	a.mu.Lock()
	a.functions[f.name] = true
	a.mu.Unlock()
	_, err := a.client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &f.name, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &f.image},
		Role: aws.String("arn:aws:iam::000000000000:role/any"), MemorySize: &f.memoryMB, Timeout: aws.Int32(60),
		Environment: &types.Environment{Variables: f.env},
	})
	return err
}

// await waits until a function is active, or returns why it will not be.
func (a *abuser) await(ctx context.Context, name string) error {
	for {
		out, err := a.client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		switch {
		case err != nil:
			return err
		case out.State == types.StateActive:
			return nil
		case out.State == types.StateFailed:
			return fmt.Errorf("%s: %s", out.StateReasonCode, aws.ToString(out.StateReason))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// invoke calls a function again and again, n times at once, and notes what came
// of it.
func (a *abuser) invoke(ctx context.Context, name string, n int) {
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for ctx.Err() == nil {
				out, err := a.client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name})
				if err != nil {
					a.note(ctx, err)
					sleep(ctx, pause)
					continue
				}
				a.notes.add(answer(out))
			}
		})
	}
	callers.Wait()
}

// answer is what a function said, or how it ended.
func answer(out *lambda.InvokeOutput) string {
	var text string
	if json.Unmarshal(out.Payload, &text) == nil {
		return text
	}
	var failure struct{ ErrorType, ErrorMessage string }
	if json.Unmarshal(out.Payload, &failure) == nil && failure.ErrorType != "" {
		return failure.ErrorType + ": " + failure.ErrorMessage
	}
	return string(out.Payload)
}

// remove removes a function.
func (a *abuser) remove(ctx context.Context, name string) {
	_, err := a.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
	if err == nil {
		a.mu.Lock()
		delete(a.functions, name)
		a.mu.Unlock()
	}
}

// cleanWait bounds how long an abuser may take to remove what it made.
const cleanWait = 10 * time.Second

// atEnd has f called when the abuse is over.
func (a *abuser) atEnd(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closing = append(a.closing, f)
}

// clean removes what the abuser made, as far as the server lets it.
func (a *abuser) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanWait)
	defer cancel()
	for _, f := range a.closing {
		f()
	}
	for _, name := range slices.Collect(maps.Keys(a.functions)) {
		a.remove(ctx, name)
	}
}
