// SPDX-License-Identifier: Apache-2.0

package sqlitedb

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	thaw "thaw.dev/thaw"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestOpenSetsWhatItPromises(t *testing.T) {
	// The name holds what would end a URI's path.
	path := filepath.Join(t.TempDir(), "a?b %20c#d.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "busy_timeout": "10000", "foreign_keys": "1",
	} {
		var got string
		if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", pragma, got, err, want)
		}
	}
	if _, err := db.Exec("CREATE TABLE t (x); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) < 2 {
		t.Fatalf("want the database and its log, got %v, %v", entries, err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", entry.Name(), info.Mode(), err)
		}
	}
}

func TestOpenWhereNoFolderIs(t *testing.T) {
	if db, err := Open(t.Context(), filepath.Join(t.TempDir(), "none", "x.db")); err == nil {
		db.Close()
		t.Fatal("opened a database in a folder that does not exist")
	}
}

func TestMigrateGoesForwardOnce(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	first := fstest.MapFS{"0001_a.sql": file("CREATE TABLE a (x); INSERT INTO a VALUES (1);")}
	both := fstest.MapFS{"0001_a.sql": first["0001_a.sql"], "0002_b.sql": file("INSERT INTO a VALUES (2); CREATE TABLE b (y);")}
	for _, files := range []fstest.MapFS{first, first, both, both} {
		if err := Migrate(t.Context(), db, "one", files); err != nil {
			t.Fatal(err)
		}
	}
	if err := Migrate(t.Context(), db, "two", fstest.MapFS{"0001_c.sql": file("CREATE TABLE c (z)")}); err != nil {
		t.Fatal("a second owner:", err)
	}
	var sum int
	if err := db.QueryRow("SELECT sum(x) FROM a").Scan(&sum); err != nil || sum != 3 {
		t.Fatalf("sum = %d, %v; each step should run once", sum, err)
	}
	if err := Migrate(t.Context(), db, "one", first); thaw.KindOf(err) != thaw.Conflict {
		t.Errorf("an older program got %v, want a conflict", err)
	}
	changed := fstest.MapFS{"0001_a.sql": file("CREATE TABLE other (x)"), "0002_b.sql": both["0002_b.sql"]}
	if err := Migrate(t.Context(), db, "one", changed); thaw.KindOf(err) != thaw.Conflict {
		t.Errorf("a changed step got %v, want a conflict", err)
	}
	if err := Migrate(t.Context(), db, "three", fstest.MapFS{"0002_a.sql": file("SELECT 1")}); err == nil {
		t.Error("a missing number was accepted")
	}
}

func TestMigrateKeepsNothingOfAFailedStep(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	broken := fstest.MapFS{"0001_a.sql": file("CREATE TABLE a (x); INSERT INTO nowhere VALUES (1);")}
	if err := Migrate(t.Context(), db, "one", broken); err == nil {
		t.Fatal("a broken step was accepted")
	}
	fixed := fstest.MapFS{"0001_a.sql": file("CREATE TABLE a (x);")}
	if err := Migrate(t.Context(), db, "one", fixed); err != nil {
		t.Fatal("the table of the broken step is still there:", err)
	}
}

func TestMigrateFromSeveralProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	files := fstest.MapFS{
		"0001_a.sql": file("CREATE TABLE a (x)"),
		"0002_b.sql": file("INSERT INTO a VALUES (1)"),
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			db, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := Migrate(t.Context(), db, "one", files); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows int
	if err := db.QueryRow("SELECT count(*) FROM a").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows, %v; want 1", rows, err)
	}
}
