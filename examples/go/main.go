// SPDX-License-Identifier: Apache-2.0

// Command go is a function in Go on AWS's own runtime client.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type reply struct {
	Greeting  string `json:"greeting"`
	RequestID string `json:"requestId"`
	Runtime   string `json:"runtime"`
}

func handle(ctx context.Context, event struct{ Name string }) (reply, error) {
	if event.Name == "" {
		event.Name = "world"
	}
	r := reply{Greeting: "hello " + event.Name, Runtime: "go", RequestID: "unknown"}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		r.RequestID = lc.AwsRequestID
	}
	_, err := os.Stdout.WriteString("greeting " + event.Name + "\n")
	return r, err
}

func main() { lambda.Start(handle) }
