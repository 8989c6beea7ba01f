// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const page = "../../docs/cli.md"

// TestCLIPage: docs/cli.md is what the commands' --help says.
func TestCLIPage(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	var c cli
	parser, err := kong.New(&c, kong.Vars{"version": version})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	out.WriteString("# The command line\n\nWhat `thaw COMMAND --help` prints; `go test ./cmd/thaw -run TestCLIPage -update` writes this page.\n")
	writeHelp(t, &out)
	for _, leaf := range parser.Model.Leaves(true) {
		writeHelp(t, &out, strings.Fields(leaf.Path())...)
	}
	if *update {
		if err := os.WriteFile(page, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Error("docs/cli.md differs from the commands' help: run go test ./cmd/thaw -run TestCLIPage -update")
	}
}

// writeHelp appends the help of one command, which must name each of its
// flags' and arguments' meaning.
func writeHelp(t *testing.T, out *bytes.Buffer, command ...string) {
	t.Helper()
	var help, failed bytes.Buffer
	code := run(t.Context(), append(command, "--help"), streams{strings.NewReader(""), &help, &failed})
	if code != exitOK || failed.Len() > 0 || help.Len() == 0 {
		t.Errorf("%v --help: status %d, %s", command, code, &failed)
	}
	name := strings.Join(append([]string{"thaw"}, command...), " ")
	out.WriteString("\n## " + name + "\n\n```text\n" + strings.TrimRight(help.String(), "\n") + "\n```\n")
}
