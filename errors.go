// SPDX-License-Identifier: Apache-2.0

package thaw

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Kind classes an error for programs. The list is closed; each surface maps
// every kind in one function (HTTP status, errno, exit code).
type Kind uint8

// The kinds. Append only: they cross process boundaries by name.
const (
	Internal    Kind = iota // a bug or an unforeseen failure of the host
	Invalid                 // the caller's input is wrong; retrying can't help
	NotFound                // the named thing does not exist for this caller
	Conflict                // the thing exists, or is in a state that forbids this
	Corrupt                 // stored bytes are not what their name says
	Denied                  // not authenticated, or not allowed
	TooLarge                // a limit on size was exceeded
	Throttled               // a limit on rate or concurrency was exceeded; retry later
	Unavailable             // a dependency can't be reached now; retry later
	Canceled                // the caller gave up
	Lost                    // what our own records name is gone or can't be used: the host's fault, never the caller's
)

var kindNames = [...]string{"internal", "invalid", "not found", "conflict", "corrupt",
	"denied", "too large", "throttled", "unavailable", "canceled", "lost"}

// String returns the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// ParseKind is the inverse of [Kind.String]; unknown words are [Internal].
func ParseKind(s string) Kind {
	for i, name := range kindNames {
		if name == s {
			return Kind(i)
		}
	}
	return Internal
}

// Error is an error with a kind for programs and one line for people.
type Error struct {
	Op   string // what was attempted and on what: "store: get 3fa9..."
	Kind Kind
	Err  error // the cause; its text is the rest of the line
}

// Error returns "op: cause".
func (e *Error) Error() string {
	if e.Op == "" {
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an error of that kind; format is for people and may wrap
// a cause with %w.
func Errorf(op string, kind Kind, format string, args ...any) error {
	return &Error{Op: op, Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap adds what was attempted to err and keeps its kind. A nil err stays nil.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Kind: KindOf(err), Err: err}
}

// OurFault is [Wrap] for an operation on something that our own records name,
// such as a manifest, a key set or a blob. Whoever asks for it is not to blame
// when it is missing or can't be used, so a kind that would blame the caller
// becomes [Lost].
func OurFault(op string, err error) error {
	if err == nil {
		return nil
	}
	kind := KindOf(err)
	switch kind {
	case Invalid, NotFound, Conflict, Denied, TooLarge:
		kind = Lost
	case Internal, Corrupt, Throttled, Unavailable, Canceled, Lost:
	}
	return &Error{Op: op, Kind: kind, Err: err}
}

// KindOf returns the kind of the outermost [Error] in err's chain, [Canceled]
// or [Unavailable] for a context's end, [Unavailable] for a shortage (see
// [IsShortage]), and [Internal] for anything else.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded), IsShortage(err):
		return Unavailable
	}
	return Internal
}

// shortages are the errors of the operating system that say that the host lacks
// something now, and that the same call may succeed later.
var shortages = [...]syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS,
	syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EUCLEAN}

// IsShortage reports whether err comes from a disk that is full, failing or
// read-only, or from a lack of memory or descriptors.
func IsShortage(err error) bool {
	for _, errno := range shortages {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
