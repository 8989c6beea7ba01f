// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"strings"
)

const (
	// MaxStringBytes is the longest argument or variable that Linux passes to
	// a program (MAX_ARG_STRLEN, less the zero byte at its end).
	MaxStringBytes = 128<<10 - 1

	// StackBytes is the limit on the stack of a sandbox's program: Linux gives
	// arguments and variables a quarter of it (execve(2)).
	StackBytes = 8 << 20

	// MaxBytes bounds arguments and variables together.
	MaxBytes = StackBytes / 4

	// ownBytes is what is left to a function's own variables, to the
	// platform's, and to an interpreter's arguments, beside an image's.
	ownBytes = 64 << 10

	// stringCost is what a string takes beside its bytes: the zero byte at its
	// end and the pointer to it.
	stringCost = 1 + 8
)

// CheckImage says why no program could be started with what an image's
// configuration says, or returns nil. Its error is for the image's owner.
func CheckImage(entrypoint, command, env []string, dir string) error {
	if strings.IndexByte(dir, 0) >= 0 {
		return fmt.Errorf("its working directory %q contains a NUL character", dir)
	}
	args := append(append([]string{}, entrypoint...), command...)
	return check(args, env, MaxBytes-ownBytes)
}

// Check says why no kernel could start a program with these arguments and
// variables, or returns nil.
func Check(args, env []string) error { return check(args, env, MaxBytes) }

func check(args, env []string, limit int) error {
	total := 0
	for i, arg := range args {
		if err := checkString(fmt.Sprintf("argument %d", i), arg); err != nil {
			return err
		}
		total += len(arg) + stringCost
	}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if err := checkString("the environment variable "+clip(name), kv); err != nil {
			return err
		}
		total += len(kv) + stringCost
	}
	if total > limit {
		return fmt.Errorf("entry point, command and environment take %d bytes; a program can be given %d", total, limit)
	}
	return nil
}

func checkString(what, s string) error {
	if len(s) > MaxStringBytes {
		return fmt.Errorf("%s has %d bytes; a program can be given %d in one", what, len(s), MaxStringBytes)
	}
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%s contains a NUL character", what)
	}
	return nil
}

// clip shortens a name to what a message can hold.
func clip(name string) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("%q...", name[:most])
	}
	return fmt.Sprintf("%q", name)
}
