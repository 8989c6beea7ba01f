// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamplesBuildFromTheirFolder: each example's Dockerfile names images in
// full, so that podman and buildah do not ask which registry is meant, takes
// nothing but what is in its folder, and has the module that go.mod has.
func TestExamplesBuildFromTheirFolder(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	modules := read(t, "go.mod")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stages := map[string]bool{"scratch": true}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			switch fields[0] {
			case "FROM":
				if host, _, ok := strings.Cut(fields[1], "/"); !stages[fields[1]] && (!ok || !strings.Contains(host, ".")) {
					t.Errorf("%s: %s does not name its registry", file, fields[1])
				}
				if len(fields) == 4 {
					stages[fields[3]] = true
				}
			case "COPY", "ADD":
				if strings.HasPrefix(fields[1], "--from=") {
					continue
				}
				for _, source := range fields[1 : len(fields)-1] {
					if _, err := os.Stat(filepath.Join(filepath.Dir(file), source)); err != nil || source == "." {
						t.Errorf("%s: COPY %s: %v", file, source, err)
					}
				}
			}
			for _, field := range fields {
				if module, version, ok := strings.Cut(field, "@v"); ok && !strings.Contains(modules, module+" v"+version) {
					t.Errorf("%s: %s is not the version of go.mod", file, field)
				}
			}
		}
	}
}
