// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/runtimeapi"
)

func TestColdThenWarm(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	res, first := w.do(f, ask{Do: "print", Text: "hello"})
	if !res.ColdStart || res.FunctionError != "" || res.Version != "$LATEST" || !regexp.MustCompile("^"+id+"$").MatchString(res.RequestID) {
		t.Fatalf("%s", show(res))
	}
	if tm := res.Timings; tm.Queue <= 0 || tm.Attach <= 0 || tm.Sandbox <= 0 || tm.Init <= 0 || tm.Handler <= 0 {
		t.Fatalf("%+v", tm)
	}
	expectLog(t, res, "init", logStart, "hello", "without an end", logEnd, logReport+logInit)

	res, second := w.do(f, ask{})
	if res.ColdStart || second.Pid != first.Pid || res.Timings.Init != 0 {
		t.Fatalf("warm: %+v, pid %d then %d", res, first.Pid, second.Pid)
	}
	expectLog(t, res, logStart, logEnd, logReport)
	if w.started.Load() != 1 || w.attached.Load() != 1 {
		t.Fatalf("started %d, attached %d", w.started.Load(), w.attached.Load())
	}
	if len(w.obs) != 2 || !w.obs[0].ColdStart || w.obs[1].ColdStart || w.obs[0].Function != "fn" {
		t.Fatalf("observed %+v", w.obs)
	}
}

// TestBilling: the billed time is the sum of what the line shows, rounded up.
func TestBilling(t *testing.T) {
	w := newWorld(t, nil)
	res, _ := w.do(goFunction(t), ask{Millis: 20})
	var id string
	var duration, billed, size, used, initial float64
	lines := strings.Split(strings.TrimSpace(string(res.LogTail)), "\n")
	_, err := fmt.Sscanf(lines[len(lines)-1],
		"REPORT RequestId: %s\tDuration: %f ms\tBilled Duration: %f ms\tMemory Size: %f MB\tMax Memory Used: %f MB\tInit Duration: %f ms",
		&id, &duration, &billed, &size, &used, &initial)
	if err != nil || id != res.RequestID || duration < 20 || billed < duration+initial-0.02 || billed > duration+initial+1.02 {
		t.Fatalf("%v: %q", err, lines[len(lines)-1])
	}
}

func TestContextReachesTheHandler(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	f.Command = []string{"app.handler"}
	res, err := w.Invoke(t.Context(), f, Request{
		ID:            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
		Payload:       ask{Do: "context"}.payload(t),
		ClientContext: `{"custom":{"a":"b"}}`,
		TraceID:       "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1",
		FunctionARN:   f.ARN + ":live",
	})
	if err != nil {
		t.Fatal(err)
	}
	var got told
	if err := json.Unmarshal(res.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got.RequestID != "8476a536-e9f4-11e8-9739-2dfe598c3fcd" || got.ARN != f.ARN+":live" || got.Client["a"] != "b" ||
		got.TraceID != "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1" {
		t.Fatalf("%+v", got)
	}
	if got.LeftMillis < 10_000 || got.LeftMillis > 20_000 {
		t.Fatalf("%d ms left of 20 s", got.LeftMillis)
	}
	env := "\n" + strings.Join(got.Environment, "\n") + "\n"
	for _, want := range []string{
		"AWS_LAMBDA_FUNCTION_NAME=fn", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/fn", "AWS_EXECUTION_ENV=AWS_Lambda_Image", "_HANDLER=app.handler", "FROM=image", "BOTH=function",
	} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("no %s in %s", want, env)
		}
	}
}

// TestRuntimes: clients of three languages answer, fail and answer again.
func TestRuntimes(t *testing.T) {
	for name, make := range map[string]func(*testing.T) Function{
		"go":     func(t *testing.T) Function { return goFunction(t) },
		"python": func(t *testing.T) Function { return scriptFunction(t, "python3", "runtime.py") },
		"node":   func(t *testing.T) Function { return scriptFunction(t, "node", "runtime.mjs") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			f := make(t)
			_, first := w.do(f, ask{Text: "hi"})
			if first.Text != "hi" {
				t.Fatalf("%+v", first)
			}
			res, failed := w.do(f, ask{Do: "error", Text: "no luck"})
			if res.FunctionError != "Unhandled" || failed.ErrorMessage != "no luck" || failed.ErrorType == "" {
				t.Fatalf("%s", show(res))
			}
			if strings.Contains(string(res.LogTail), "Status:") {
				t.Fatalf("an error that the runtime survives is no failed invocation: %s", res.LogTail)
			}
			for i := range 20 {
				if _, again := w.do(f, ask{Text: itoa(i)}); again.Text != itoa(i) || again.Pid != first.Pid {
					t.Fatalf("%+v", again)
				}
			}
		})
	}
}

func TestPanic(t *testing.T) {
	w := newWorld(t, nil)
	res, out := w.do(goFunction(t), ask{Do: "panic", Text: "boom"})
	if res.FunctionError != "Unhandled" || out.ErrorMessage != "boom" || out.ErrorType != "string" {
		t.Fatalf("%s", show(res))
	}
	log := string(res.LogTail)
	for _, want := range []string{
		"Error: Runtime exited with error: exit status 1\nRuntime.ExitError\nEND", "\tStatus: error\tError Type: Runtime.ExitError\n",
	} {
		if !strings.Contains(log, want) {
			t.Fatalf("no %q in %s", want, log)
		}
	}
	if res, _ := w.do(goFunction(t), ask{}); !res.ColdStart {
		t.Fatal("a sandbox that exited served again")
	}
}

func TestExitInFlight(t *testing.T) {
	for name, row := range map[string]struct {
		ask              ask
		oom, oomEnd      int64
		message, typ, mb string
	}{
		"code":    {ask{Do: "exit", Code: 3}, 0, 0, "Runtime exited with error: exit status 3", "Runtime.ExitError", "31"},
		"no code": {ask{Do: "exit"}, 0, 0, "Runtime exited without providing a reason", "Runtime.ExitError", "31"},
		"signal":  {ask{Do: "kill"}, 0, 0, "Runtime exited with error: signal: killed", "Runtime.ExitError", "31"},
		"memory":  {ask{Do: "kill"}, 0, 1, "Runtime exited with error: signal: killed", "Runtime.OutOfMemory", "128"},
		"shell":   {ask{Do: "exit", Code: 1}, 0, 1, "Runtime exited with error: exit status 1", "Runtime.OutOfMemory", "128"},
		"before":  {ask{Do: "exit", Code: 3}, 2, 0, "Runtime exited with error: exit status 3", "Runtime.ExitError", "31"},
		"both":    {ask{Do: "kill"}, 2, 1, "Runtime exited with error: signal: killed", "Runtime.OutOfMemory", "128"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.launcher.oom, w.launcher.oomEnd = row.oom, row.oomEnd
			res, out := w.do(goFunction(t), row.ask)
			if res.FunctionError != "Unhandled" || res.ErrorType != row.typ || out.ErrorType != row.typ ||
				out.ErrorMessage != "RequestId: "+res.RequestID+" Error: "+row.message {
				t.Fatalf("%s", show(res))
			}
			report := strings.Replace(logReport, "Used: 31", "Used: "+row.mb, 1)
			lines := []string{"init"}
			if row.oom > 0 {
				lines = append(lines, fmt.Sprintf(`\[thaw\] the kernel killed %d of the function's processes for want of memory \(128 MB\)`, row.oom))
			}
			expectLog(t, res, append(lines, logStart, "RequestId: "+id+" Error: "+row.message, row.typ, logEnd,
				report+logInit+"Status: error\tError Type: "+row.typ)...)
			w.launcher.oomEnd = 0
			if res, _ := w.do(goFunction(t), ask{}); !res.ColdStart || res.FunctionError != "" {
				t.Fatalf("after the crash: %+v", res)
			}
		})
	}
}

// TestKilledChild: what the runtime survives, in its init too, is a line, and no
// cause of what happens later.
func TestKilledChild(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	w.do(f, ask{})
	w.launcher.mu.Lock()
	w.launcher.oom = 2
	w.launcher.mu.Unlock()
	res, _ := w.do(f, ask{})
	expectLog(t, res, logStart, `\[thaw\] the kernel killed 2 of the function's processes for want of memory \(128 MB\)`, logEnd, logReport)
	if res, _ := w.do(f, ask{}); res.FunctionError != "" || strings.Contains(string(res.LogTail), "killed") {
		t.Fatalf("told twice: %s", show(res))
	}
	if res, out := w.do(f, ask{Do: "exit", Code: 3}); out.ErrorType != "Runtime.ExitError" {
		t.Fatalf("%s", show(res))
	}
	f.Timeout = 300 * time.Millisecond
	w.do(f, ask{})
	w.launcher.mu.Lock()
	w.launcher.oom = 3
	w.launcher.mu.Unlock()
	if res, out := w.do(f, ask{Do: "hang"}); out.ErrorType != "Sandbox.Timedout" || !strings.Contains(string(res.LogTail), "killed 1 of the function's processes") {
		t.Fatalf("a runtime that waits for the child: %s", show(res))
	}
}

// TestExitAfterAnswer: the answer stands, and the sandbox serves no other.
func TestExitAfterAnswer(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.FreezeAfter = time.Minute }) // or it might be frozen before it exits
	f := goFunction(t)
	_, first := w.do(f, ask{Do: "late exit", Code: 1})
	until(t, "the dead sandbox is stopped", func() bool { return w.Stats().Sandboxes == 0 })
	if res, second := w.do(f, ask{}); !res.ColdStart || second.Pid == first.Pid {
		t.Fatalf("%s", show(res))
	}
}

func TestTimeout(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	f.Timeout = 300 * time.Millisecond
	res, out := w.do(f, ask{Do: "hang"})
	if res.FunctionError != "Unhandled" || out.ErrorType != "Sandbox.Timedout" ||
		out.ErrorMessage != "RequestId: "+res.RequestID+" Error: Task timed out after 0.30 seconds" {
		t.Fatalf("%s", show(res))
	}
	report := strings.Replace(logReport, `Duration: [0-9]+\.[0-9]{2} ms\tBilled`, `Duration: 300\.00 ms\tBilled`, 1)
	expectLog(t, res, "init", logStart, `[0-9T:.-]{23}Z `+id+` Task timed out after 0\.30 seconds`, "", logEnd,
		report+logInit+"Status: timeout")
	if n := w.launcher.alive; n != 0 {
		t.Fatalf("%d sandboxes run after the timeout", n)
	}
	if res, _ := w.do(f, ask{}); !res.ColdStart || res.FunctionError != "" {
		t.Fatalf("after the timeout: %+v", res)
	}
}

func TestPayloads(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	const most = 6 << 20
	_, out := w.do(f, ask{Text: strings.Repeat("p", most-100)})
	if len(out.Text) != most-100 {
		t.Fatalf("%d bytes came back", len(out.Text))
	}
	py := scriptFunction(t, "python3", "runtime.py")
	py.Name = "py"
	res, _ := w.do(py, ask{Do: "big", Bytes: runtimeapi.MaxPayloadBytes - 2})
	if len(res.Payload) != runtimeapi.MaxPayloadBytes {
		t.Fatalf("%d bytes came back: %.200s", len(res.Payload), res.Payload)
	}
	res, _ = w.do(py, ask{Do: "big", Bytes: runtimeapi.MaxPayloadBytes})
	want := `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}`
	if string(res.Payload) != want || res.FunctionError != "Unhandled" || !strings.Contains(string(res.LogTail), "answered 413") {
		t.Fatalf("%.200s %s", res.Payload, res.LogTail)
	}
	if res, _ := w.do(py, ask{}); res.ColdStart {
		t.Fatal("a runtime that survived a refusal was not used again")
	}
}

// TestCallerGone: the function runs on, and its sandbox serves the next caller.
func TestCallerGone(t *testing.T) {
	w := newWorld(t, nil)
	f := goFunction(t)
	w.do(f, ask{})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	res, err := w.Invoke(ctx, f, Request{Payload: ask{Millis: 200, Text: "done"}.payload(t)})
	if err != nil || !strings.Contains(string(res.Payload), "done") {
		t.Fatalf("%v %v", res, err)
	}
	if res, _ := w.do(f, ask{}); res.ColdStart {
		t.Fatal("the sandbox was lost")
	}
}

func TestInvalidFunctions(t *testing.T) {
	w := newWorld(t, nil)
	for name, change := range map[string]func(*Function){
		"tenant":  func(f *Function) { f.Tenant = "x" },
		"name":    func(f *Function) { f.Name = "" },
		"path":    func(f *Function) { f.Name = "../x" },
		"memory":  func(f *Function) { f.MemoryMB = 0 },
		"timeout": func(f *Function) { f.Timeout = 0 },
	} {
		f := goFunction(t)
		change(&f)
		if _, err := w.Invoke(t.Context(), f, Request{}); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTruncatedAnswer: a runtime that dies while it answers is told by its exit.
func TestTruncatedAnswer(t *testing.T) {
	w := newWorld(t, nil)
	f := scriptFunction(t, "python3", "truncate.py")
	res, out := w.do(f, ask{})
	if out.ErrorType != "Runtime.ExitError" || !strings.HasSuffix(out.ErrorMessage, "exit status 7") {
		t.Fatalf("%s", show(res))
	}
	f.Env = map[string]string{"STAY": "1"}
	f.Revision = "2"
	res, out = w.do(f, ask{})
	if out.ErrorType != "Runtime.TruncatedResponse" || res.ErrorType != "Runtime.TruncatedResponse" {
		t.Fatalf("%s", show(res))
	}
}
