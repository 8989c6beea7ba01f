// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
)

// TestScreen: COLUMNS is obeyed, and what is no terminal is 80 wide, without colours.
func TestScreen(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for columns, want := range map[string]int{"": 80, "132": 132, "60": 60, "5": leastWidth, "x": 80, "-3": 80} {
		t.Setenv("COLUMNS", columns)
		if s := screenOf(file); s.width != want || s.colors {
			t.Errorf("with COLUMNS=%q it is %+v, want %d wide and without colours", columns, s, want)
		}
		if s := screenOf(&strings.Builder{}); s.width != want || s.colors {
			t.Errorf("with COLUMNS=%q a buffer is %+v", columns, s)
		}
	}
}
