// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMapsAreReadWithinABudget: a function decides how long the tables of its
// mappings are, so that a look must not read all of them.
func TestMapsAreReadWithinABudget(t *testing.T) {
	const line = "7f00-7f01 r--p 00000000 00:2b 17 /usr/lib/libc.so.6\n"
	table := func(text string) string {
		path := filepath.Join(t.TempDir(), "maps")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	budget := int64(1000)
	for _, c := range []struct {
		what, table string
		want        bool
		left        int64
	}{
		{"libraries", table(line), false, 1000 - int64(len(line))},
		{"a file of /tmp", table(strings.Replace(line, "00:2b", "07:41", 1)), true, 1000 - 2*int64(len(line))},
		{"a process that is gone", "/nowhere", true, 1000 - 2*int64(len(line))},
		{"more than is left", table(strings.Repeat(line, 1000)), true, 0},
		{"libraries, with nothing left", table(line), true, 0},
	} {
		if got := mapsTmp(c.table, &budget); got != c.want || budget != c.left {
			t.Errorf("%s: %v with %d bytes left, want %v with %d", c.what, got, budget, c.want, c.left)
		}
	}
}
