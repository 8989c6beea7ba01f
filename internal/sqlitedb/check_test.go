// SPDX-License-Identifier: Apache-2.0

package sqlitedb_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"thaw.dev/thaw/internal/sqlitedb"
)

// TestCheckSeesWhatConnectionsDoNot: a file that was damaged below a database that
// is open, and answers from memory.
func TestCheckSeesWhatConnectionsDoNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?.db")
	db, err := sqlitedb.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('x')"); err != nil {
		t.Fatal(err)
	}
	if err := sqlitedb.Check(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, 100<<10)
	_, _ = rand.Read(garbage)
	for _, log := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + log); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sqlitedb.Check(t.Context(), path); err == nil {
		t.Error("garbage is a sound database")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := sqlitedb.Check(t.Context(), path); err == nil {
		t.Error("no file is a sound database")
	}
}
