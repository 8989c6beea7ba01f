// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"regexp"
	"strings"

	"thaw.dev/thaw"
)

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,47}$`)

// Prepare returns the spec with its defaults filled in, or an error of kind
// [thaw.Invalid]. Launchers call it first.
func (s Spec) Prepare() (Spec, error) {
	if s.Pids == 0 {
		s.Pids = DefaultPids
	}
	if s.Files == 0 {
		s.Files = DefaultFiles
	}
	if s.TmpBytes == 0 {
		s.TmpBytes = DefaultTmpBytes
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	const op = "sandbox: spec"
	switch {
	case !idPattern.MatchString(s.ID):
		return s, thaw.Errorf(op, thaw.Invalid, "id %q is not 1 to 48 of [a-z0-9-]", s.ID)
	case !filepath.IsAbs(s.Root):
		return s, thaw.Errorf(op, thaw.Invalid, "root %q is not absolute", s.Root)
	case len(s.Args) == 0 || s.Args[0] == "":
		return s, thaw.Errorf(op, thaw.Invalid, "no command")
	case s.MemoryBytes < 0 || s.CPUs < 0 || s.Pids < 0 || s.Files < 0 || s.TmpBytes < 0:
		return s, thaw.Errorf(op, thaw.Invalid, "a limit is negative")
	case s.Network > NetworkNAT:
		return s, thaw.Errorf(op, thaw.Invalid, "network %d", s.Network)
	}
	for _, list := range [][]string{s.Args, s.Env, {s.Dir, s.Root}} {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return s, thaw.Errorf(op, thaw.Invalid, "a NUL byte in %q", v)
			}
		}
	}
	return s, nil
}
