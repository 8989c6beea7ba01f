package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"thaw.dev/thaw/invoke/runtimeapi"
	"thaw.dev/thaw/invoke/sandbox"
)

// Lambda's error types that this package gives; runtimeapi gives others.
const (
	errorExit       = "Runtime.ExitError"
	errorOOM        = "Runtime.OutOfMemory"
	errorEntrypoint = "Runtime.InvalidEntrypoint"
	errorWorkingDir = "Runtime.InvalidWorkingDir"
	errorTimeout    = "Sandbox.Timedout"
)

// failure is why an init or an invocation failed, in Lambda's words.
type failure struct {
	errorType string
	message   string // without the request's id; "" where the runtime reported
	status    string // "error" or "timeout", as in REPORT
	reported  *runtimeapi.Response
	launch    bool // the command was not executed
}

// exitFailure says how a runtime ended. Lambda's words are those of Go's
// os/exec; a runtime that ends without an error has still broken its promise.
func exitFailure(e sandbox.Exit) *failure {
	f := &failure{errorType: errorExit, status: "error"}
	switch {
	case e.Err != nil:
		return launchFailure(e.Err)
	case e.Signal != 0:
		f.message = "Runtime exited with error: signal: " + e.Signal.String()
	case e.Code != 0:
		f.message = fmt.Sprintf("Runtime exited with error: exit status %d", e.Code)
	default:
		f.message = "Runtime exited without providing a reason"
	}
	if e.OOM {
		f.errorType = errorOOM
	}
	return f
}

// launchFailure says why a command could not be executed.
func launchFailure(err error) *failure {
	f := &failure{errorType: errorEntrypoint, message: err.Error(), status: "error", launch: true}
	e, ok := errors.AsType[*sandbox.ExecError](err)
	if !ok {
		return f
	}
	switch e.Fault {
	case sandbox.FaultEntrypointMissing:
		f.message = fmt.Sprintf("exec: %q: %v", e.Path, e.Errno)
	case sandbox.FaultEntrypointNotExecutable:
		f.message = fmt.Sprintf("fork/exec %s: %v", e.Path, e.Errno)
	case sandbox.FaultWorkingDir:
		f.errorType, f.message = errorWorkingDir, fmt.Sprintf("chdir %s: %v", e.Path, e.Errno)
	}
	return f
}

func timeoutFailure(limit time.Duration) *failure {
	return &failure{errorType: errorTimeout, status: "timeout",
		message: fmt.Sprintf("Task timed out after %.2f seconds", limit.Seconds())}
}

// result is the failure as the caller sees it.
func (f *failure) result(res *Result) {
	res.FunctionError, res.ErrorType = "Unhandled", f.errorType
	res.ContentType = "application/json"
	if f.reported != nil {
		res.Payload, res.ContentType = f.reported.Payload, f.reported.ContentType
		return
	}
	payload, err := json.Marshal(struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{f.errorType, fmt.Sprintf("RequestId: %s Error: %s", res.RequestID, f.message)})
	if err == nil { // two strings always marshal
		res.Payload = payload
	}
}

// lines is the failure as the log shows it, before END.
func (f *failure) lines(id string, now time.Time) []string {
	switch {
	case f.reported != nil:
		return nil // the runtime has printed it
	case f.errorType == errorTimeout:
		return []string{now.UTC().Format("2006-01-02T15:04:05.000Z") + " " + id + " " + f.message, ""}
	}
	return []string{"RequestId: " + id + " Error: " + f.message, f.errorType}
}
