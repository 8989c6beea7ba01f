// SPDX-License-Identifier: Apache-2.0

package sqlitedb

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	thaw "thaw.dev/thaw"
)

// migration is one numbered step of one schema.
type migration struct {
	version int
	name    string
	script  string
	sum     string // SHA-256 of script, hexadecimal
}

const createLedger = `CREATE TABLE IF NOT EXISTS schema_migration (
	owner      TEXT    NOT NULL,
	version    INTEGER NOT NULL,
	sum        TEXT    NOT NULL,
	applied_ms INTEGER NOT NULL,
	PRIMARY KEY (owner, version)
) STRICT, WITHOUT ROWID`

// Migrate brings the tables of owner up to date with files, which holds steps
// named "0001_what.sql", "0002_...", with no number left out. Steps not yet
// applied run in order, each in a transaction of its own; they only ever go
// forward. Several processes may migrate at once. Errors: [thaw.Conflict]
// where the database was written by a newer program, or a step that was
// applied has since been changed.
func Migrate(ctx context.Context, db *sql.DB, owner string, files fs.FS) error {
	op := "migrate " + owner
	steps, err := readMigrations(files)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	if _, err := db.ExecContext(ctx, createLedger); err != nil {
		return thaw.Wrap(op, err)
	}
	for _, step := range steps {
		if err := apply(ctx, db, owner, step); err != nil {
			return thaw.Wrap(op+" to "+step.name, err)
		}
	}
	var newest sql.NullInt64
	err = db.QueryRowContext(ctx, "SELECT max(version) FROM schema_migration WHERE owner = ?", owner).Scan(&newest)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	if newest.Int64 > int64(len(steps)) {
		return thaw.Errorf(op, thaw.Conflict,
			"the database is at version %d, this program knows %d: start the newer program, or restore a backup",
			newest.Int64, len(steps))
	}
	return nil
}

func readMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	var steps []migration
	for _, name := range names {
		number, _, ok := strings.Cut(path.Base(name), "_")
		version, err := strconv.Atoi(number)
		if !ok || err != nil {
			return nil, thaw.Errorf("", thaw.Internal, "%s is not named NUMBER_WHAT.sql", name)
		}
		script, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(script)
		steps = append(steps, migration{version, name, string(script), hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(steps, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	for i, step := range steps {
		if step.version != i+1 {
			return nil, thaw.Errorf("", thaw.Internal, "%s should have number %d", step.name, i+1)
		}
	}
	return steps, nil
}

// apply runs one step unless the ledger says that it ran.
func apply(ctx context.Context, db *sql.DB, owner string, step migration) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing
	var sum string
	err = tx.QueryRowContext(ctx, "SELECT sum FROM schema_migration WHERE owner = ? AND version = ?",
		owner, step.version).Scan(&sum)
	switch {
	case err == nil && sum != step.sum:
		return thaw.Errorf("", thaw.Conflict, "this step was changed after it had been applied")
	case err == nil:
		return nil
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	if _, err := tx.ExecContext(ctx, step.script); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO schema_migration (owner, version, sum, applied_ms) VALUES (?, ?, ?, ?)",
		owner, step.version, step.sum, time.Now().UnixMilli())
	if err != nil {
		return err
	}
	return tx.Commit()
}
