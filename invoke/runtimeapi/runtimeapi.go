// SPDX-License-Identifier: Apache-2.0

// Package runtimeapi speaks Lambda's Runtime API, version 2018-06-01, to the
// one runtime of one sandbox. It knows the state machine and the wire form; it
// knows neither which kind of sandbox it serves nor why an invocation came.
//
// The runtime drives the machine: it asks for the next invocation, answers it,
// asks again. Where AWS's documentation is silent the package does what the
// Runtime Interface Emulator does, whose core is the cloud's own.
//
//	          next                  Begin                response|error
//	Started ───────▶ Ready ─────────────▶ Running ─────────▶ Responding
//	   │               ▲                   │  ▲                  │ body read
//	   │ init/error    │       next        └──┘ next (again      ▼
//	   ▼               └───────────────────────── the same) ResponseSent
//	InitError
//
// Locks: Server.mu guards the machine and is never held over I/O.
package runtimeapi

import (
	"regexp"
	"strings"
	"time"
)

// MaxPayloadBytes bounds the body of a response or an error: Lambda's 6 MB and
// the 100 bytes it adds (the emulator's interop.MaxPayloadSize).
const MaxPayloadBytes = 6<<20 + 100

// Invocation is what the runtime is handed by `next`. Empty fields are left out
// of its headers.
type Invocation struct {
	ID            string // the request id, a UUID
	Deadline      time.Time
	FunctionARN   string
	TraceID       string // as in X-Amzn-Trace-Id
	ClientContext string // JSON, not base64
	Payload       []byte // read only, until the turn is done
}

// Response is what the runtime answered, or what is answered in its place
// because its answer can't be passed on.
type Response struct {
	Payload     []byte // owned by the receiver
	ContentType string
	// Failed says that this is a function error: the runtime posted it to
	// `error`, or the answer was too large, cut off or malformed.
	Failed bool
	// ErrorType is one of Lambda's error types ("Runtime.ExitError",
	// "Function.ResponseSizeTooLarge", ...) where Failed; what the runtime
	// named otherwise is "Runtime.Unknown" or "Function.Unknown".
	ErrorType string
}

// The error types that this package itself gives.
const (
	ErrorTooLarge    = "Function.ResponseSizeTooLarge"
	ErrorTruncated   = "Runtime.TruncatedResponse"
	ErrorInvalidMode = "Runtime.InvalidResponseModeHeader"
	ErrorUnknown     = "Runtime.Unknown"
	errorFnUnknown   = "Function.Unknown"
)

var knownErrorType = regexp.MustCompile(`(Runtime|Function)\.[A-Z][a-zA-Z]+`)

// errorType maps what a runtime says in Lambda-Runtime-Function-Error-Type to a
// type that is safe in logs and metrics, as the emulator does.
func errorType(said string) string {
	switch {
	case len(said) <= 128 && knownErrorType.MatchString(said):
		return strings.Map(printable, said)
	case strings.HasPrefix(said, "Function."):
		return errorFnUnknown
	}
	return ErrorUnknown
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}
