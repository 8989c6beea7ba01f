// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/pid1"
)

// program is an OCI runtime's program. Its commands are those that crun and
// runc have in common (github.com/opencontainers/runc, man/).
type program struct {
	path  string
	state string // folder of the runtime's own state
	crun  bool
	copy  *os.File // of the program, sealed in memory; nil if it runs from path
}

// executable is what to execute. A copy that nobody can change spares crun the
// making of one, and executing itself again, at each start.
func (r *program) executable() string {
	if r.copy == nil {
		return r.path
	}
	return fmt.Sprintf("/proc/self/fd/%d", r.copy.Fd())
}

// sealed is the copy, of a runtime that was found and has one, or nil.
func (r *program) sealed() *os.File {
	if r == nil {
		return nil
	}
	return r.copy
}

// findRuntime looks for the program and asks what it is.
func findRuntime(ctx context.Context, name, state string) (*program, error) {
	const op = "oci: runtime"
	if name == "" {
		name = DefaultRuntime
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, thaw.Errorf(op, thaw.Unavailable, "%s is not installed: %w", name, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	text, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, thaw.Errorf(op, thaw.Unavailable, "%s --version: %w", path, err)
	}
	r := &program{path: path, state: state, crun: bytes.HasPrefix(text, []byte("crun"))}
	if !r.crun {
		return r, nil
	}
	binary, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(binary, []byte("\x7fELF")) { // a script must be found by its path
		return r, thaw.Wrap(op, err)
	}
	r.copy, err = pid1.Seal(binary)
	return r, err
}

// args returns the arguments of a command, after those that every one has.
func (r *program) args(log string, command ...string) []string {
	args := []string{r.path, "--root", r.state, "--log", log}
	if r.crun {
		args = append(args, "--cgroup-manager=cgroupfs") // runc's default
	}
	return append(args, command...)
}

// environ is what a runtime gets of our environment.
func environ() []string { return []string{"PATH=" + os.Getenv("PATH")} }

// knows reports whether the runtime has a container of that id.
func (r *program) knows(id string) bool {
	_, err := os.Stat(filepath.Join(r.state, id))
	return err == nil
}

// complaint returns what a runtime wrote to its log, or the error that says
// that it wrote nothing.
func complaint(log string) error {
	text, err := os.ReadFile(log)
	switch said := strings.TrimSpace(string(text)); {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case said == "":
		return errors.New("the runtime said nothing")
	default:
		return fmt.Errorf("the runtime said: %s", said)
	}
}
