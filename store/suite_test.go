// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/store"
	"thaw.dev/thaw/store/storetest"
)

// dirUnderTest adds to a Dir what the suite needs: a way to damage it.
type dirUnderTest struct {
	*store.Dir
	path string
}

func (d dirUnderTest) Damage(name thaw.ChunkName, sealed thaw.SealedChunk) {
	path := filepath.Join(d.path, "chunks", name.String()[:2], name.String())
	if err := os.WriteFile(path, sealed, 0o600); err != nil {
		panic(err)
	}
}

func openDir(t *testing.T) storetest.Store {
	path := filepath.Join(t.TempDir(), "origin")
	return dirUnderTest{mustOpen(t, path), path}
}

func mustOpen(t *testing.T, path string) *store.Dir {
	t.Helper()
	d, err := store.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

func TestDir(t *testing.T) { storetest.Run(t, openDir) }

func TestMem(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return store.NewMem() })
}
