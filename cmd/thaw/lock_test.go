// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"thaw.dev/thaw"
)

// TestOneServerForAFolder: a second server is refused, also where somebody has
// removed what the first keeps in run/.
func TestOneServerForAFolder(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockFolder(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(data, "run")); err != nil {
		t.Fatal(err)
	}
	if again, err := lockFolder(data); thaw.KindOf(err) != thaw.Conflict {
		t.Errorf("a second server: %v", err)
		again()
	}
	unlock()
	if unlock, err = lockFolder(data); err != nil {
		t.Fatal(err)
	}
	unlock()
}
