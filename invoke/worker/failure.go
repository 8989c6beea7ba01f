// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"time"

	"thaw.dev/thaw/invoke/program"
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
	launch    bool   // the command was not executed
	quiet     bool   // it ended by itself, with nothing to complain of
	hint      string // in our own words, for the log: what is behind it and what to do
}

// exitFailure says how a runtime ended. Lambda's words are those of Go's
// os/exec; a runtime that ends without an error has still broken its promise.
// Processes that were killed for want of memory are told where one was in this
// invocation: more than oomBefore, which were killed before.
func exitFailure(e sandbox.Exit, oomBefore int64) *failure {
	f := &failure{errorType: errorExit, status: "error"}
	switch {
	case e.Err != nil:
		return launchFailure(e.Err)
	case e.Signal != 0:
		f.message = "Runtime exited with error: signal: " + e.Signal.String()
	case e.Code != 0:
		f.message = fmt.Sprintf("Runtime exited with error: exit status %d", e.Code)
	default:
		f.message, f.quiet = "Runtime exited without providing a reason", true
	}
	if e.OOMKills > oomBefore {
		f.errorType = errorOOM
	}
	return f
}

// launchFailure says why a command could not be executed, in the words of Go's
// os/exec, in which Lambda starts programs, and of the emulator for directories.
func launchFailure(err error) *failure {
	f := &failure{errorType: errorEntrypoint, message: err.Error(), status: "error", launch: true}
	e, ok := errors.AsType[*sandbox.ExecError](err)
	if !ok {
		return f
	}
	f.hint = e.Hint
	switch {
	case e.Fault == sandbox.FaultWorkingDir && e.Errno == syscall.ENOENT:
		f.errorType, f.message = errorWorkingDir, "the working directory doesn't exist: "+e.Path
	case e.Fault == sandbox.FaultWorkingDir:
		f.errorType, f.message = errorWorkingDir, fmt.Sprintf("chdir %s: %v", e.Path, e.Errno)
	case e.Fault == sandbox.FaultEntrypointMissing && !strings.Contains(e.Path, "/"):
		f.message = fmt.Sprintf("exec: %q: executable file not found in $PATH", e.Path)
	default:
		f.message = fmt.Sprintf("fork/exec %s: %v", e.Path, e.Errno)
	}
	return f
}

// remedy is what a program needs that knows nothing of the Runtime API.
const remedy = "A function's program is a loop that asks http://$AWS_LAMBDA_RUNTIME_API for events. Let ENTRYPOINT start a runtime " +
	"interface client for your language (npm: aws-lambda-ric, pip: awslambdaric, ...), or put the Lambda Web Adapter before a web server"

// silence is the hint for an init that failed without any request to the
// Runtime API: such a program was not made for Lambda, or is slow. A program
// that fails by itself has something of its own to say.
func silence(fail *failure, asked bool, limit time.Duration) string {
	switch {
	case fail.status == "timeout" && !asked:
		return fmt.Sprintf("the program made no request to the Runtime API in the %.2f s since its start. %s. "+
			"If it is only slow to start, give it more memory or a longer timeout", limit.Seconds(), remedy)
	case fail.quiet:
		return "the program ended before it asked the Runtime API for an event. " + remedy
	}
	return ""
}

// impossible says why a function's command can't be executed in any root, or
// returns nil.
func impossible(f *Function, env []string) *failure {
	args := f.args()
	if len(args) == 0 {
		return launchFailure(errors.New("neither the image nor the function names a command"))
	}
	if args[0] == "" {
		return launchFailure(errors.New("exec: the first word of the command is empty"))
	}
	if dir := f.dir(); !path.IsAbs(dir) {
		fail := launchFailure(fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", dir))
		fail.errorType = errorWorkingDir
		return fail
	}
	if err := program.Check(append(args, f.dir()), env); err != nil {
		return launchFailure(fmt.Errorf("fork/exec %s: %w", args[0], err))
	}
	return nil
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
		return append([]string{now.UTC().Format("2006-01-02T15:04:05.000Z") + " " + id + " " + f.message, ""}, f.remark()...)
	}
	return append([]string{"RequestId: " + id + " Error: " + f.message, f.errorType}, f.remark()...)
}

// remark is the hint as the log shows it, if there is one.
func (f *failure) remark() []string {
	if f.hint == "" {
		return nil
	}
	return []string{ownLine(f.hint)}
}
