// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// forTests are the options that only tests give, with what for. A number or a time
// needs no row: it has a default, and tests lower it.
var forTests = map[string]string{
	"image/source.Options.Transport":      "registries that a test makes up",
	"invoke/control.Options.Architecture": "a machine of another architecture",
	"invoke/sandbox/jail.Config.Init":     "init from the sources of the test, whatever was built last",
	"invoke/sandbox/oci.Config.Init":      "the same",
	"read/tier/l2.Options.Layout":         "fewer servers than five",
	"tenant/sigv4.Config.Now":             "a clock",
}

// orders are the structs by which one package tells another what to do, beside
// those that are named Options or Config.
var orders = []string{"invoke/sandbox.Spec", "invoke/worker.Function", "invoke/worker.Request", "invoke/runtimeapi.Invocation"}

// TestOptionsAreSet: each switch, name and function that a package's exported
// Options, Config or order has is set by other code than tests. What nobody sets is a
// feature that nobody can use.
func TestOptionsAreSet(t *testing.T) {
	files := sources(t)
	set := map[string]bool{}
	for _, f := range files {
		f.settings(set)
	}
	declared := map[string]bool{}
	for _, f := range files {
		for _, option := range f.options() {
			declared[option] = true
			why, exempt := forTests[option]
			kind := strings.LastIndexByte(option[:strings.LastIndexByte(option, '.')], '.')
			isSet := set[option] || set[option[:kind]+".*"+option[strings.LastIndexByte(option, '.'):]]
			switch {
			case !isSet && !exempt:
				t.Errorf("%s is set nowhere: let cmd/thaw set it, or delete it", option)
			case isSet && exempt:
				t.Errorf("%s is set, although forTests says it is for tests alone (%s)", option, why)
			}
		}
	}
	for _, order := range orders {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(declared)), func(option string) bool { return strings.HasPrefix(option, order+".") }) {
			t.Errorf("orders has %s, which does not exist", order)
		}
	}
	for option := range forTests {
		if !declared[option] {
			t.Errorf("forTests has a row for %s, which does not exist", option)
		}
	}
}

// source is a file of the project that is no test.
type source struct {
	*ast.File
	pkg     string
	imports map[string]string // package by the name that the file uses
}

// sources parses them.
func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []source
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); slices.Contains([]string{"testdata", "node_modules", "bin", "bench", "examples", "e2e", "debimage"}, name) || (strings.HasPrefix(name, ".") && len(name) > 2) {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, file)
		pkg := path.Dir(filepath.ToSlash(rel))
		if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.HasSuffix(pkg, "test") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f := source{File: parsed, pkg: pkg, imports: map[string]string{}}
		for _, imp := range parsed.Imports {
			full, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			if local, ok := strings.CutPrefix(full, module+"/"); ok {
				name := path.Base(local)
				if imp.Name != nil {
					name = imp.Name.Name
				}
				f.imports[name] = local
			}
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// options lists the options that a file declares, as PACKAGE.TYPE.FIELD, but for
// numbers and times.
func (f source) options() []string {
	var found []string
	ast.Inspect(f.File, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || !isOptions(spec.Name.Name) && !slices.Contains(orders, f.pkg+"."+spec.Name.Name) {
			return true
		}
		fields, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range fields.Fields.List {
			for _, name := range field.Names {
				if name.IsExported() && !isNumber(field.Type) {
					found = append(found, f.pkg+"."+spec.Name.Name+"."+name.Name)
				}
			}
		}
		return true
	})
	return found
}

func isOptions(name string) bool {
	return ast.IsExported(name) && strings.HasSuffix(name, "Options") || name == "Config" || name == "ClientConfig"
}

func isNumber(kind ast.Expr) bool {
	switch kind := kind.(type) {
	case *ast.Ident:
		return strings.HasPrefix(kind.Name, "int") || strings.HasPrefix(kind.Name, "uint") || strings.HasPrefix(kind.Name, "float")
	case *ast.SelectorExpr:
		return kind.Sel.Name == "Duration"
	}
	return false
}

// settings adds what a file sets of other packages' options: by a literal, or by
// an assignment to a field of that name in a file that uses the package. The
// latter may take one type's field for another's.
func (f source) settings(set map[string]bool) {
	all := func(field string) {
		for _, pkg := range f.imports {
			set[pkg+".*."+field] = true
		}
	}
	ast.Inspect(f.File, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			for _, element := range n.Elts {
				pair, ok := element.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				if key, ok := pair.Key.(*ast.Ident); ok {
					f.literal(set, n.Type, key.Name, pair.Value)
				}
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if field, ok := left.(*ast.SelectorExpr); ok {
					all(field.Sel.Name)
				}
			}
		}
		return true
	})
}

// literal adds a field of a composite literal. In the package itself it counts
// where it passes on what its caller gave, as DefaultOptions(dir) does.
func (f source) literal(set map[string]bool, kind ast.Expr, field string, value ast.Expr) {
	if generic, ok := kind.(*ast.IndexExpr); ok {
		kind = generic.X
	}
	switch kind := kind.(type) {
	case *ast.Ident:
		if v, ok := value.(*ast.Ident); ok && v.Name != "true" && v.Name != "false" && v.Name != "nil" {
			set[f.pkg+"."+kind.Name+"."+field] = true
		}
	case *ast.SelectorExpr:
		if name, ok := kind.X.(*ast.Ident); ok && f.imports[name.Name] != "" {
			set[f.imports[name.Name]+"."+kind.Sel.Name+"."+field] = true
		}
	}
}
