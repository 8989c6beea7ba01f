// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// poolNames finds the pools that the code makes, and what it tells of as one.
var poolNames = regexp.MustCompile(`(?:fair\.Options|fair\.Usage|door\.Options)\{\s*Name:\s+"([a-z0-9-]+)"`)

// TestThreatModelNamesEachPool: the table of docs/threat-model.md has a row for
// each pool that tenants share, and no other; and each pool is in the metrics.
func TestThreatModelNamesEachPool(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "docs/threat-model.md"), "## What tenants share")
	table, _, _ = strings.Cut(table, "\n## ")
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|").FindAllStringSubmatch(table, -1) {
		told[m[1]] = true
	}
	made := map[string]bool{}
	for path, text := range goFiles(t) {
		if strings.HasPrefix(path, "internal/fair/") {
			continue
		}
		for _, m := range poolNames.FindAllStringSubmatch(text, -1) {
			if made[m[1]] = true; !told[m[1]] {
				t.Errorf("%s makes the pool %s, which has no row in docs/threat-model.md", path, m[1])
			}
		}
	}
	for name := range told {
		if !made[name] {
			t.Errorf("docs/threat-model.md tells of the pool %s, which nobody makes", name)
		}
	}
	if len(made) == 0 {
		t.Error("no pool was found")
	}
}

// goFiles returns the text of each Go file that is no test, by its path.
func goFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := os.DirFS(filepath.Join("..", ".."))
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(root, path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
