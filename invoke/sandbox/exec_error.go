// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"syscall"

	"thaw.dev/thaw"
)

// Fault says which part of a [Spec] kept the command from being executed.
type Fault uint8

// The faults. Their numbers cross the border between a jail and its launcher.
const (
	FaultEntrypointMissing       Fault = 1 // no such file, nor in PATH; or its interpreter is missing
	FaultEntrypointNotExecutable Fault = 2 // a directory, no permission, or no executable format
	FaultWorkingDir              Fault = 3 // no such directory, or not accessible
)

// String says the fault in words.
func (f Fault) String() string {
	switch f {
	case FaultEntrypointMissing:
		return "entry point not found"
	case FaultEntrypointNotExecutable:
		return "entry point is not executable"
	case FaultWorkingDir:
		return "working directory is not accessible"
	}
	return fmt.Sprintf("fault %d", uint8(f))
}

// ExecError tells that a command could not be executed because of what the
// image or the function's configuration says. Its kind is [thaw.Invalid].
type ExecError struct {
	Fault Fault
	Path  string // the entry point (where PATH found it) or directory; cut if it is longer than any path
	Errno syscall.Errno
	Hint  string // what is really missing, in words for the image's owner; may be ""
}

// NewExecError returns e as an error that carries the kind [thaw.Invalid].
func NewExecError(e ExecError) error {
	return &thaw.Error{Op: "sandbox: exec", Kind: thaw.Invalid, Err: &e}
}

// Error returns "fault: path: cause".
func (e *ExecError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Fault, e.Path, e.Errno.Error())
}

// Unwrap returns the errno.
func (e *ExecError) Unwrap() error { return e.Errno }
