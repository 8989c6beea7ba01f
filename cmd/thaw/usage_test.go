// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// TestUsage: a wrong command line ends with its exit status and one line that
// names what is wrong.
func TestUsage(t *testing.T) {
	data := filepath.Join(t.TempDir(), "nothing")
	for _, try := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "thaw --help"},
		{"nonsense", exitUsage, "unexpected argument nonsense"},
		{"ls --nonsense", exitUsage, "unknown flag --nonsense"},
		{"deploy hello", exitUsage, `"<image>"`},
		{"deploy hello ./absent.tar --memory x", exitUsage, "--memory"},
		{"cache drop l9 --data " + data, exitUsage, `"l1","l2","kernel"`},
		{"invoke hello -d @/absent.json --data " + data, exitUsage, "/absent.json"},
		{"serve --network moon", exitUsage, "--network"},
		{"registry login registry.example -u me --data " + data, exitUsage, "--password-stdin"},
		{"registry login registry.example --password-stdin --data " + data, exitUsage, "--user"},
		{"ls --data " + data, exitFailed, `start one with "thaw serve --data ` + data},
		{"help nonsense", exitUsage, "unexpected argument nonsense"},
		{"help invok", exitUsage, `did you mean "invoke"?`},
		{"help", exitOK, ""},
		{"help image", exitOK, ""},
		{"help image inspect", exitOK, ""},
		{"version", exitOK, ""},
		{"tenant list --json --data " + data, exitFailed, data},
		{"registry ls --json --data " + data, exitFailed, data},
		{"env --wait 100ms --data " + data, exitFailed, `start one with "thaw serve --data ` + data},
	} {
		var out, failed bytes.Buffer
		for _, name := range []string{"AWS_ENDPOINT_URL", "THAW_ENDPOINT", "THAW_DATA"} {
			t.Setenv(name, "")
		}
		code := run(t.Context(), strings.Fields(try.args), streams{strings.NewReader("secret\n"), &out, &failed})
		if code != try.code || !strings.Contains(failed.String(), try.says) {
			t.Errorf("thaw %s: status %d, want %d with %q, said: %s", try.args, code, try.code, try.says, &failed)
		}
	}
}
