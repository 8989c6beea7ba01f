// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testName  = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	benchName = regexp.MustCompile("`(bench/[a-z]+)`")
	// requireLine is a line of go.mod's require blocks, tableRow one of a table.
	requireLine = regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) v\S+.*$`)
	tableRow    = regexp.MustCompile(`(?m)^\| (\S+) \|`)

	// linkTarget is a file that Markdown links to, not an address elsewhere.
	linkTarget = regexp.MustCompile(`\]\(([^)#:]+)[^):]*\)`)

	pathName = regexp.MustCompile("`((?:image|read|invoke|store|tenant|format|internal|cmd|docs|bench|examples)/[a-zA-Z0-9_./-]+)`")
)

// TestSpecificationNamesWhatIsThere: each test and benchmark that
// SPECIFICATION.md names exists.
func TestSpecificationNamesWhatIsThere(t *testing.T) {
	text := read(t, "SPECIFICATION.md")
	tests := allTests(t)
	for _, m := range testName.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(tests, "func "+m[1]+"(") {
			t.Errorf("SPECIFICATION.md names %s, which no test file has", m[1])
		}
	}
	for _, m := range benchName.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join("..", "..", m[1])); err != nil {
			t.Errorf("SPECIFICATION.md names %s: %v", m[1], err)
		}
	}
}

// TestDocumentsNameWhatIsThere: each path of the project that the documents for
// newcomers name in code quotes exists.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	for _, doc := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SPECIFICATION.md"} {
		for _, m := range pathName.FindAllStringSubmatch(read(t, doc), -1) {
			name, _, typeNamed := strings.Cut(m[1], ".")
			if _, err := os.Stat(filepath.Join("..", "..", m[1])); err == nil {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", "..", name)); err != nil || !typeNamed {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
	}
}

// TestErrorTablesAreWhole: the documents name every error that the code gives,
// and no other.
func TestErrorTablesAreWhole(t *testing.T) {
	for _, table := range []struct {
		doc, from, to string // the section
		name          string // a regular expression of an error's name
		sources       []string
	}{
		{"docs/invoke-path.md", "## How it can end", "## What a program finds", `(?:Runtime|Function|Sandbox)\.[A-Z][A-Za-z]+`,
			[]string{"invoke/worker/failure.go", "invoke/runtimeapi/runtimeapi.go"}},
		{"docs/lambda-api.md", "## Errors", "## For the project's own", `[A-Z][A-Za-z]+Exception`,
			[]string{"invoke/api/fault.go", "invoke/control/problem.go", "tenant/sigv4/rejection.go"}},
	} {
		_, section, _ := strings.Cut(read(t, table.doc), table.from)
		section, _, _ = strings.Cut(section, table.to)
		told := regexp.MustCompile("`("+table.name+")`").FindAllStringSubmatch(section, -1)
		var given [][]string
		for _, source := range table.sources {
			given = append(given, regexp.MustCompile(`"(`+table.name+`)"`).FindAllStringSubmatch(read(t, source), -1)...)
		}
		if len(told) == 0 || len(given) == 0 {
			t.Fatalf("%s: %d told, %d given", table.doc, len(told), len(given))
		}
		names := func(list [][]string) []string {
			var out []string
			for _, m := range list {
				out = append(out, m[1])
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		if a, b := names(told), names(given); !slices.Equal(a, b) {
			t.Errorf("%s tells\n%q\nthe code gives\n%q", table.doc, a, b)
		}
	}
}

// TestDocumentsLinkToWhatIsThere: each file that a document at the root links to exists.
func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	for _, doc := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SPECIFICATION.md", "SECURITY.md", "CHANGELOG.md"} {
		for _, m := range linkTarget.FindAllStringSubmatch(read(t, doc), -1) {
			if _, err := os.Stat(filepath.Join("..", "..", m[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc, m[1], err)
			}
		}
	}
}

// TestDependenciesHaveReasons: docs/dependencies.md has a row for each direct
// dependency of go.mod, in its order, and for nothing else.
func TestDependenciesHaveReasons(t *testing.T) {
	var required []string
	for _, m := range requireLine.FindAllStringSubmatch(read(t, "go.mod"), -1) {
		if !strings.Contains(m[0], "// indirect") {
			required = append(required, m[1])
		}
	}
	if len(required) == 0 {
		t.Fatal("go.mod requires nothing: it was not understood")
	}
	table, _, _ := strings.Cut(read(t, "docs/dependencies.md"), "\nTools that tests run")
	var explained []string
	for _, m := range tableRow.FindAllStringSubmatch(table, -1) {
		if m[1] != "module" && m[1] != "---" {
			explained = append(explained, m[1])
		}
	}
	for _, module := range required {
		if !slices.Contains(explained, module) {
			t.Errorf("docs/dependencies.md does not say why %s is here", module)
		}
	}
	for _, module := range explained {
		if !slices.Contains(required, module) {
			t.Errorf("docs/dependencies.md has a row for %s, which go.mod does not require directly", module)
		}
	}
	if !t.Failed() && !slices.Equal(explained, required) {
		t.Errorf("docs/dependencies.md has its rows not in go.mod's order, or one twice")
	}
}

func read(t *testing.T, doc string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", doc))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// allTests returns the text of every test file.
func allTests(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join("..", ".."), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".cache" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(file, "_test.go") {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			all.Write(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
