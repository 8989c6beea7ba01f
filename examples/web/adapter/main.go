// SPDX-License-Identifier: Apache-2.0

// Command adapter makes a function of a plain web server: it starts the server
// named on its command line and turns each invocation into an HTTP request. It
// understands the events of a function URL (payload version 2.0); any other
// event is POSTed to / as it is.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: adapter SERVER [ARGUMENT ...]")
	}
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := exec.Command(os.Args[1], os.Args[2:]...)
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	if err := server.Start(); err != nil {
		log.Fatalf("start %s: %v", os.Args[1], err)
	}
	go func() { log.Fatalf("%s ended: %v", os.Args[1], server.Wait()) }()
	address := net.JoinHostPort("127.0.0.1", port)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	lambda.Start(func(ctx context.Context, event json.RawMessage) (any, error) {
		return forward(ctx, "http://"+address, event)
	})
}

func forward(ctx context.Context, base string, event json.RawMessage) (any, error) {
	var in events.LambdaFunctionURLRequest
	if err := json.Unmarshal(event, &in); err != nil || in.RequestContext.HTTP.Method == "" {
		in = events.LambdaFunctionURLRequest{RawPath: "/", Body: string(event)}
		in.RequestContext.HTTP.Method = http.MethodPost
	}
	body := []byte(in.Body)
	if in.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(in.Body); err != nil {
			return nil, fmt.Errorf("the event's body is not base64: %w", err)
		}
	}
	url := base + in.RawPath
	if in.RawQueryString != "" {
		url += "?" + in.RawQueryString
	}
	request, err := http.NewRequestWithContext(ctx, in.RequestContext.HTTP.Method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range in.Headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	out := events.LambdaFunctionURLResponse{StatusCode: response.StatusCode, Headers: map[string]string{}, Body: string(answer)}
	for name, values := range response.Header {
		out.Headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	return out, nil
}
