// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The limits of CONTRIBUTING.md on what a reader must hold in mind at once.
const (
	maxFileLines     = 500
	maxFunctionLines = 80
)

func TestSizes(t *testing.T) {
	eachSource(t, func(file string) {
		if n := codeLines(t, file); n > maxFileLines {
			t.Errorf("%s: %d lines of code, at most %d: split it by what a newcomer would look for", file, n, maxFileLines)
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFunctionLines {
				t.Errorf("%s: function %s has %d lines, at most %d", file, fn.Name.Name, n, maxFunctionLines)
			}
		}
	})
}

// TestPackagesAreDocumented demands one package comment for each package.
func TestPackagesAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	eachSource(t, func(file string) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(file)
		documented[dir] = documented[dir] || parsed.Doc.Text() != ""
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: the package has no package comment", dir)
		}
	}
}

// TestEveryFormatHasVectorsAndFuzz demands of each package of format/ checked-in
// vectors and a fuzz target.
func TestEveryFormatHasVectorsAndFuzz(t *testing.T) {
	dirs, err := filepath.Glob("../../format/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no formats found: %v", err)
	}
	for _, dir := range dirs {
		if vectors, _ := filepath.Glob(filepath.Join(dir, "testdata", "vectors", "*")); len(vectors) == 0 {
			t.Errorf("%s has no testdata/vectors", dir)
		}
		tests, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
		fuzzed := false
		for _, file := range tests {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fuzzed = fuzzed || strings.Contains(string(text), "\nfunc Fuzz")
		}
		if !fuzzed {
			t.Errorf("%s has no fuzz target", dir)
		}
	}
}

func eachSource(t *testing.T, visit func(file string)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || name == "node_modules" || name == "bin" || (strings.HasPrefix(name, ".") && len(name) > 2) {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") {
			visit(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// codeLines counts the lines that are neither blank nor only a comment.
func codeLines(t *testing.T, file string) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, inBlock := 0, false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case inBlock:
			inBlock = !strings.Contains(line, "*/")
		case strings.HasPrefix(line, "/*"):
			inBlock = !strings.Contains(line, "*/")
		case line != "" && !strings.HasPrefix(line, "//"):
			n++
		}
	}
	return n
}
