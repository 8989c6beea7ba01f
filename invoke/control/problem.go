// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"

	thaw "thaw.dev/thaw"
)

// ProblemType is the name of an error of Lambda's API.
type ProblemType string

// The errors of Lambda's API that this package gives.
const (
	InvalidParameter   ProblemType = "InvalidParameterValueException"
	FailedValidation   ProblemType = "ValidationException"
	ResourceNotFound   ProblemType = "ResourceNotFoundException"
	ResourceConflict   ProblemType = "ResourceConflictException"
	PreconditionFailed ProblemType = "PreconditionFailedException"
	AccessDenied       ProblemType = "AccessDeniedException"
	TooManyRequests    ProblemType = "TooManyRequestsException"
	CodeStorage        ProblemType = "CodeStorageExceededException"
	Unavailable        ProblemType = "ServiceUnavailableException"
)

// Problem says what is wrong with a request in the words of Lambda's API, fit
// to be shown to the tenant. It comes inside a [thaw.Error] whose kind says
// the same to programs that do not know Lambda.
type Problem struct {
	Type    ProblemType
	Message string
}

// Error returns the message.
func (p *Problem) Error() string { return p.Message }

func problem(op string, kind thaw.Kind, t ProblemType, format string, args ...any) error {
	return &thaw.Error{Op: op, Kind: kind, Err: &Problem{Type: t, Message: fmt.Sprintf(format, args...)}}
}

func invalid(op, format string, args ...any) error {
	return problem(op, thaw.Invalid, InvalidParameter, format, args...)
}
