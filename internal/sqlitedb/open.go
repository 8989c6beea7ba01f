// SPDX-License-Identifier: Apache-2.0

// Package sqlitedb opens SQLite databases the one way this project uses them:
// what a committed transaction wrote survives the death of the process and of
// the machine, readers never block the writer, and the file is readable by its
// owner only, since it holds credentials. It also brings schemas up to date.
// It knows nothing of what the tables mean.
package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	thaw "thaw.dev/thaw"

	// The driver, pure Go, registers itself as "sqlite".
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

const (
	// busyMillis is how long a statement waits for another process's write
	// lock. Writes here take milliseconds; commands of an operator may queue
	// behind a server's.
	busyMillis = "10000"

	// maxConns bounds the connections of one process: one writes at a time,
	// the others read.
	maxConns = 8
)

// Open opens the database file at path, creating it with mode 0600 where it is
// absent, and tightening the mode of one that others could read. The folder
// must exist. The result is safe for concurrent use; the caller closes it.
//
// Every transaction takes the write lock when it begins, so it can't fail
// half-way because another one was faster. Commits are durable (write-ahead
// log, synchronous=FULL): a call that returned is on the disk.
func Open(ctx context.Context, path string) (*sql.DB, error) {
	op := "open database " + path
	if err := createPrivate(path); err != nil {
		return nil, thaw.Wrap(op, err)
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(" + busyMillis + ")",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
	}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: pathEscape(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	if err := db.PingContext(ctx); err != nil {
		return nil, thaw.Wrap(op, errors.Join(err, db.Close()))
	}
	return db, nil
}

// Check reads the whole database file at path, past what open connections have in
// memory, and returns the first thing that is wrong with it. It takes a
// millisecond for a small database, and a second for one of some 100 MB.
func Check(ctx context.Context, path string) error {
	op := "check database " + path
	query := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(" + busyMillis + ")"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: pathEscape(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return thaw.Wrap(op, err)
	}
	var found string
	err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found)
	if err = errors.Join(err, db.Close()); err != nil {
		return thaw.Wrap(op, err)
	}
	if found != "ok" {
		return thaw.Errorf(op, thaw.Corrupt, "%s", found)
	}
	return nil
}

// Kinded gives an error of the database that may pass its kind: a disk that is
// full or fails, a lack of memory, a lock that another process holds. Others stay
// as they are.
func Kinded(err error) error {
	failed, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch failed.Code() & 0xff { // the primary code
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_NOMEM, lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return thaw.Errorf("database", thaw.Unavailable, "%w", err)
	}
	return err
}

// pathEscape keeps a path's characters from being read as the URI's query.
func pathEscape(path string) string {
	return (&url.URL{Path: path}).EscapedPath()
}

// createPrivate makes sure that the file exists, belongs to no one else's eyes
// and that its name survives a crash. SQLite gives its log files the mode of
// the database.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
