// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// licences are those that a module which is linked into thaw may have: they ask
// for no more than that their text goes along. The words are of the text that
// each has and the others lack; of several that fit the first one counts.
var licences = []struct {
	id    string
	words []string
}{
	{"Apache-2.0", []string{"Apache License", "Version 2.0"}},
	{"MIT", []string{"Permission is hereby granted, free of charge"}},
	{"BSD-3-Clause", []string{"Redistribution and use in source and binary forms", "endorse or promote products derived"}},
	{"BSD-2-Clause", []string{"Redistribution and use in source and binary forms"}},
	{"ISC", []string{"Permission to use, copy, modify, and", "for any purpose with or without fee"}},
	{"Unlicense", []string{"free and unencumbered software released into the public domain"}},
}

// refused are words of licences that ask for more. They are looked for first,
// so that a text with two licences is not taken for the easier one.
var refused = []string{
	"GNU GENERAL PUBLIC LICENSE", "GNU LESSER GENERAL PUBLIC", "GNU AFFERO", "Server Side Public License", "Business Source License",
	"Mozilla Public License", "Commons Clause", "Elastic License", "Creative Commons", "European Union Public Licence",
}

// TestLicences reads the licence of every module that any build of thaw links,
// and wants one of those above, and docs/dependencies.md to tell which.
func TestLicences(t *testing.T) {
	_ = read(t, "go.mod") // so that the test cache notices a change
	byLicence := map[string][]string{}
	for module, dir := range linkedModules(t) {
		id, why := licenceOf(dir)
		if why != "" {
			t.Errorf("%s: %s", module, why)
			continue
		}
		byLicence[id] = append(byLicence[id], module)
	}
	doc := read(t, "docs/dependencies.md")
	for _, id := range slices.Sorted(maps.Keys(byLicence)) {
		slices.Sort(byLicence[id])
		if row := "| " + id + " | " + strings.Join(byLicence[id], ", ") + " |\n"; !strings.Contains(doc, row) {
			t.Errorf("docs/dependencies.md has not this row:\n%s", row)
		}
	}
}

// linkedModules returns the folders of the modules by their paths.
func linkedModules(t *testing.T) map[string]string {
	t.Helper()
	const format = "{{with .Module}}{{if .Version}}{{.Path}} {{.Dir}}{{end}}{{end}}"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", "gcs", "-deps", "-f", format, "./cmd/thaw")
	cmd.Dir, cmd.Stderr = filepath.Join("..", ".."), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if module, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			dirs[module] = dir
		}
	}
	if len(dirs) < 50 {
		t.Fatalf("only %d modules: the list was not understood", len(dirs))
	}
	return dirs
}

// licenceOf says which licence a module has, or what is wrong.
func licenceOf(dir string) (id, why string) {
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "UNLICENSE"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return classify(string(text))
		}
	}
	return "", "it has no licence, so that nobody may use it"
}

func classify(text string) (id, why string) {
	text = strings.Join(strings.Fields(text), " ")
	for _, words := range refused {
		if strings.Contains(strings.ToLower(text), strings.ToLower(words)) {
			return "", "its licence is or names the " + words + ", which is not among those that thaw may link"
		}
	}
	for _, l := range licences {
		if !slices.ContainsFunc(l.words, func(w string) bool { return !strings.Contains(text, w) }) {
			return l.id, ""
		}
	}
	return "", "its licence is not known: read it, and add it to internal/archtest/licences_test.go if thaw may link it"
}

// TestClassify has the licences that must not pass.
func TestClassify(t *testing.T) {
	for text, want := range map[string]string{
		"Apache License\n  Version 2.0, January 2004":                                        "Apache-2.0",
		"Permission is hereby granted,\nfree of charge, to any person":                       "MIT",
		"GNU GENERAL PUBLIC LICENSE Version 3":                                               "",
		"GNU AFFERO GENERAL PUBLIC LICENSE":                                                  "",
		"MIT for small parts: Permission is hereby granted, free of charge. Commons Clause.": "",
		"Business Source License 1.1":                                                        "",
		"all rights reserved":                                                                "",
	} {
		if got, why := classify(text); got != want || (want == "") != (why != "") {
			t.Errorf("%.40q is %q (%s), want %q", text, got, why, want)
		}
	}
	if _, why := licenceOf(t.TempDir()); why == "" {
		t.Error("a module without a licence passes")
	}
}
