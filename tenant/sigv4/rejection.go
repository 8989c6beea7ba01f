// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"fmt"

	thaw "thaw.dev/thaw"
)

// Code is the name that AWS gives to a reason for refusing a signature. All of
// them go with HTTP status 403.
type Code string

// The codes.
const (
	MissingAuthentication Code = "MissingAuthenticationTokenException" // no signature at all
	IncompleteSignature   Code = "IncompleteSignatureException"        // a part of it is missing or malformed
	InvalidSignature      Code = "InvalidSignatureException"           // wrong key, changed request, wrong scope, wrong time
	UnrecognizedClient    Code = "UnrecognizedClientException"         // no such access key
)

// Rejection says why a request was refused, in the words of AWS, fit to be
// shown to its sender. It comes inside an error of kind [thaw.Denied].
type Rejection struct {
	Code    Code
	Message string
}

// Error returns the code and the message.
func (r *Rejection) Error() string { return string(r.Code) + ": " + r.Message }

func reject(code Code, format string, args ...any) error {
	return &thaw.Error{Op: "verify signature", Kind: thaw.Denied,
		Err: &Rejection{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// clip bounds what a message repeats of the sender's words.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
