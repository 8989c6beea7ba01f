// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestAWSCommandLine walks the reference pipeline with the real AWS CLI: log
// in, push, create, wait, invoke, update, delete.
func TestAWSCommandLine(t *testing.T) {
	w := newWorld(t)
	ref := w.push("go-hello:1", "hello:v1")

	w.aws("lambda", "create-function", "--function-name", "hello", "--package-type", "Image",
		"--code", "ImageUri="+ref, "--role", "arn:aws:iam::000000000000:role/any", "--timeout", "10")
	w.aws("lambda", "wait", "function-active-v2", "--function-name", "hello")

	answer := filepath.Join(t.TempDir(), "answer.json")
	status := w.aws("lambda", "invoke", "--function-name", "hello", "--cli-binary-format", "raw-in-base64-out",
		"--payload", `{"name":"thaw"}`, "--log-type", "Tail", "--query", "[StatusCode,ExecutedVersion,LogResult]", "--output", "text", answer)
	if !strings.HasPrefix(status, "200\t$LATEST\t") {
		t.Errorf("invoke printed %q", status)
	}
	text, err := os.ReadFile(answer)
	if err != nil || !strings.Contains(string(text), `"greeting":"hello thaw"`) {
		t.Errorf("the function answered %q, error %v", text, err)
	}

	w.push("go-hello:2", "hello:v2")
	w.aws("lambda", "update-function-code", "--function-name", "hello", "--image-uri", strings.Replace(ref, ":v1", ":v2", 1))
	w.aws("lambda", "wait", "function-updated-v2", "--function-name", "hello")
	w.aws("lambda", "invoke", "--function-name", "hello", "--cli-binary-format", "raw-in-base64-out", "--payload", `{}`, answer)

	var listing struct {
		Functions []struct{ FunctionName, State string }
	}
	if err := json.Unmarshal([]byte(w.aws("lambda", "list-functions", "--output", "json")), &listing); err != nil {
		t.Fatal(err)
	}
	if len(listing.Functions) != 1 || listing.Functions[0].FunctionName != "hello" {
		t.Errorf("list-functions says %+v", listing)
	}
	w.aws("lambda", "delete-function", "--function-name", "hello")
	if out, err := w.try("/usr/bin/aws", "--endpoint-url", w.Endpoint, "lambda", "get-function", "--function-name", "hello"); err == nil || !strings.Contains(out, "ResourceNotFoundException") {
		t.Errorf("get-function after delete-function: %v, %s", err, out)
	}
}

// TestExamples invokes a function of each example.
func TestExamples(t *testing.T) {
	w := newWorld(t)
	for _, example := range []struct{ image, event, want string }{
		{"go-hello:1", `{"name":"you"}`, `"greeting":"hello you"`},
		{"node-api:1", `{"name":"you"}`, `"greeting":"hello you"`},
		{"py-hello:1", `{"name":"you"}`, `"greeting": "hello you"`},
		{"web:1", `{"rawPath":"/some/page","requestContext":{"http":{"method":"GET"}}}`, `/some/page`},
	} {
		name, _, _ := strings.Cut(example.image, ":")
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			ref := w.push(example.image, name+":v1")
			client := w.create(ctx, name, ref)
			for range 3 {
				if got, failed := invoke(ctx, t, client, name, example.event); failed != "" || !strings.Contains(got, example.want) {
					t.Fatalf("answered %s (error %q), want %s", got, failed, example.want)
				}
			}
		})
	}
}

// TestFunctionErrors shows that a handler's error reaches the caller as
// Lambda's does, and that the function goes on answering.
func TestFunctionErrors(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	client := w.create(ctx, "py", w.push("py-hello:1", "py:v1"))
	payload, failed := invoke(ctx, t, client, "py", `{"fail":true}`)
	if failed != "Unhandled" || !strings.Contains(payload, `"errorType": "ValueError"`) || !strings.Contains(payload, "asked to fail") {
		t.Errorf("error %q, payload %s", failed, payload)
	}
	if payload, failed := invoke(ctx, t, client, "py", `{}`); failed != "" {
		t.Errorf("after an error: %q, %s", failed, payload)
	}
	out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("py"), Payload: []byte(`{"fail":true}`), LogType: types.LogTypeTail})
	if err != nil {
		t.Fatal(err)
	}
	if tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult)); err != nil || !strings.Contains(string(tail), "[ERROR] Traceback") {
		t.Errorf("the example's log has no trace of its error: %v %s", err, tail)
	}
	out, err = client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("nobody"), Payload: []byte(`{}`)})
	if err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("invoking what is not there: %v, %v", out, err)
	}
}

// TestLogsTailAndSince: thaw logs prints the last lines, or those since a time.
func TestLogsTailAndSince(t *testing.T) {
	w := newWorld(t)
	client := w.create(t.Context(), "f", w.push("go-hello:1", "go:v1"))
	for range 3 {
		invoke(t.Context(), t, client, "f", `{}`)
	}
	for flags, check := range map[string]func(lines []string) bool{
		"":                func(lines []string) bool { return len(lines) > 6 },
		"--tail 2":        func(lines []string) bool { return len(lines) == 2 && strings.Contains(lines[1], "REPORT") },
		"--since 1h":      func(lines []string) bool { return len(lines) > 6 },
		"--since 1ns":     func(lines []string) bool { return len(lines) == 0 },
		"-n 1 --since 1h": func(lines []string) bool { return len(lines) == 1 },
	} {
		text, err := w.Thaw(t.Context(), append([]string{"logs", "f"}, strings.Fields(flags)...)...)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if text == "" {
			lines = nil
		}
		if err != nil || !check(lines) {
			t.Errorf("thaw logs f %s: %v\n%s", flags, err, text)
		}
	}
}
