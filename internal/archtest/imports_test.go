// SPDX-License-Identifier: Apache-2.0

// Package archtest holds the repository's own rules as tests: who may import
// whom, which packages may touch a key, and that the documents name what is
// there. It parses the files itself, so that the test cache notices a change.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "thaw.dev/thaw"

// rule says what a package may import beside the standard library: local
// packages relative to the module ("" is the root package), and modules.
type rule struct {
	local    []string
	external []string
	// ciphers permits crypto/aes and crypto/cipher: whoever may import them
	// can hold a plain chunk's key.
	ciphers bool
}

func TestImportsFollowTheTable(t *testing.T) {
	seen := map[string]bool{}
	for pkg, imports := range parseTree(t) {
		seen[pkg] = true
		r, ok := table[pkg]
		if !ok {
			t.Errorf("package %q has no row in the table: say in internal/archtest/table_test.go what it may import", pkg)
			continue
		}
		for imp, file := range imports {
			checkImport(t, pkg, r, imp, file)
		}
	}
	for pkg := range table {
		if !seen[pkg] {
			t.Errorf("the table has a row for %q, which does not exist", pkg)
		}
	}
}

func checkImport(t *testing.T, pkg string, r rule, imp, file string) {
	t.Helper()
	switch {
	case imp == module || strings.HasPrefix(imp, module+"/"):
		local := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
		if !slices.Contains(r.local, local) && !slices.Contains(r.local, "*") {
			t.Errorf("%s: %q may not import %q", file, pkg, local)
		}
	case imp == "crypto/aes" || imp == "crypto/cipher":
		if !r.ciphers {
			t.Errorf("%s: %q may not import %s: ciphers live in format/seal", file, pkg, imp)
		}
	case strings.Contains(strings.SplitN(imp, "/", 2)[0], "."):
		if !slices.ContainsFunc(r.external, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") }) {
			t.Errorf("%s: %q may not import %s", file, pkg, imp)
		}
	}
}

// parseTree returns, for each package of the module, its imports and one file
// that has each. Test files are left out: a test may wire what it likes.
func parseTree(t *testing.T) map[string]map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	packages := map[string]map[string]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || name == "node_modules" || name == "bin" || (strings.HasPrefix(name, ".") && len(name) > 2) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		if pkg == "." {
			pkg = ""
		}
		if strings.HasPrefix(pkg, "examples/") || strings.HasPrefix(pkg, "bench/") {
			return nil // programs that use the project; nothing imports them
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if packages[pkg] == nil {
			packages[pkg] = map[string]string{}
		}
		for _, imp := range parsed.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			packages[pkg][p] = filepath.ToSlash(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// TestNoPathJoins keeps the three paths apart: image, read and invoke never
// import one another, whatever the table's rows come to say.
func TestNoPathJoins(t *testing.T) {
	for pkg, imports := range parseTree(t) {
		mine, ok := pathOf(pkg)
		if !ok {
			continue
		}
		for imp, file := range imports {
			local, found := strings.CutPrefix(imp, module+"/")
			if !found {
				continue
			}
			if theirs, ok := pathOf(local); ok && theirs != mine {
				t.Errorf("%s: the %s path imports %q of the %s path", file, mine, local, theirs)
			}
		}
	}
}

func pathOf(pkg string) (string, bool) {
	first, _, _ := strings.Cut(pkg, "/")
	return first, first == "image" || first == "read" || first == "invoke"
}

// TestKeysStayWhereTheyAre names the packages that may hold a chunk's key; the
// helpers of their tests apart.
func TestKeysStayWhereTheyAre(t *testing.T) {
	may := map[string]bool{"image/ingest": true, "image/ingest/ingesttest": true, "read/view": true}
	for pkg, imports := range parseTree(t) {
		if file, ok := imports[module+"/format/seal"]; ok && !may[pkg] {
			t.Errorf("%s: %q may not hold a chunk's key", file, pkg)
		}
	}
}
