// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw.dev/thaw"
)

// errFunction says that the function, not thaw, failed; what it answered has
// been printed.
var errFunction = errors.New("the function reported an error")

// invokeCmd invokes a function and waits for its answer.
type invokeCmd struct {
	apiFlags
	Name    string `arg:"" help:"Name or ARN of the function."`
	Payload string `short:"d" name:"payload" help:"The event: JSON text, @FILE, or - for standard input." default:"{}" placeholder:"JSON|@FILE|-"`
	Tail    bool   `help:"Print the end of the log (4 KB) on standard error."`
}

// Run invokes the function; its answer goes to standard output as it is.
func (c *invokeCmd) Run(ctx context.Context, std streams) error {
	payload, err := c.payload(ctx, std)
	if err != nil {
		return err
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	in := &lambda.InvokeInput{FunctionName: aws.String(c.Name), Payload: payload}
	if c.Tail {
		in.LogType = types.LogTypeTail
	}
	out, err := s.patient(invokeTime).Invoke(ctx, in)
	if err != nil && ctx.Err() != nil {
		return thaw.Errorf("", thaw.Canceled, "interrupted: %s goes on with this invocation; see thaw logs %s", c.Name, quote(c.Name))
	}
	if err != nil {
		return s.plain(err)
	}
	if tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult)); err == nil && len(tail) > 0 {
		fmt.Fprint(std.err, strings.TrimRight(string(tail), "\n")+"\n")
	}
	if _, err := fmt.Fprintf(std.out, "%s\n", out.Payload); err != nil {
		return err
	}
	if out.FunctionError != nil {
		return errFunction
	}
	return nil
}

// maxEvent is more than a server takes, so that it is the server that refuses an
// event that is too large.
const maxEvent = 8 << 20

func (c *invokeCmd) payload(ctx context.Context, std streams) ([]byte, error) {
	switch name, isFile := strings.CutPrefix(c.Payload, "@"); {
	case c.Payload == "-":
		return reading(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(std.in, maxEvent)) })
	case isFile:
		file, err := os.Open(name)
		if err != nil {
			return nil, thaw.Errorf("read the event", thaw.Invalid, "%w", err)
		}
		defer file.Close()
		text, err := io.ReadAll(io.LimitReader(file, maxEvent))
		if err != nil {
			return nil, thaw.Errorf("read the event", thaw.Invalid, "%w", err)
		}
		return text, nil
	}
	return []byte(c.Payload), nil
}

// reading waits for what a user types, or for the interruption.
func reading(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
