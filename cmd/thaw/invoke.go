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
	payload, err := c.payload(std)
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
	out, err := s.lambda().Invoke(ctx, in)
	if err != nil {
		return plain(err)
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

func (c *invokeCmd) payload(std streams) ([]byte, error) {
	switch file, isFile := strings.CutPrefix(c.Payload, "@"); {
	case c.Payload == "-":
		return io.ReadAll(std.in)
	case isFile:
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, thaw.Errorf("read the event", thaw.Invalid, "%w", err)
		}
		return text, nil
	}
	return []byte(c.Payload), nil
}
