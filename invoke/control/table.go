// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/sqlitedb"
)

// key names a function across tenants.
type key struct {
	tenant thaw.TenantID
	name   string
}

// errAbsent is what the table says where there is no such row; callers word it.
var errAbsent = errors.New("no such function")

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func load(ctx context.Context, q querier, k key) (*Function, error) {
	var record []byte
	err := q.QueryRowContext(ctx, "SELECT record FROM control_function WHERE tenant = ? AND name = ?",
		string(k.tenant), k.name).Scan(&record)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, err
	}
	return decode(record)
}

func decode(record []byte) (*Function, error) {
	f := new(Function)
	if err := json.Unmarshal(record, f); err != nil {
		return nil, thaw.Errorf("read function record", thaw.Corrupt, "%w", err)
	}
	return f, nil
}

// insert stores a new function.
func (c *Control) insert(ctx context.Context, f *Function) error {
	return c.transaction(ctx, func(tx *sql.Tx) error {
		_, err := load(ctx, tx, key{f.Tenant, f.Name})
		if err == nil {
			return alreadyExists(f.Name)
		}
		if !errors.Is(err, errAbsent) {
			return err
		}
		record, err := json.Marshal(f)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO control_function (tenant, name, preparing, record) VALUES (?, ?, ?, ?)",
			string(f.Tenant), f.Name, f.Next != nil, string(record))
		return err
	})
}

// modify changes a stored function and returns it as it is afterwards. What
// change sees is current: nobody else writes meanwhile. On an error of change
// nothing is stored.
func (c *Control) modify(ctx context.Context, k key, change func(*Function) error) (*Function, error) {
	var f *Function
	err := c.transaction(ctx, func(tx *sql.Tx) error {
		var err error
		if f, err = load(ctx, tx, k); err != nil {
			return err
		}
		if err := change(f); err != nil {
			return err
		}
		record, err := json.Marshal(f)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE control_function SET preparing = ?, record = ? WHERE tenant = ? AND name = ?",
			f.Next != nil, string(record), string(k.tenant), k.name)
		return err
	})
	// Even after an error: a commit may have happened without our learning.
	c.targets.forget(k)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// remove deletes a function and returns what it was.
func (c *Control) remove(ctx context.Context, k key) (*Function, error) {
	var f *Function
	err := c.transaction(ctx, func(tx *sql.Tx) error {
		var err error
		if f, err = load(ctx, tx, k); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM control_function WHERE tenant = ? AND name = ?", string(k.tenant), k.name)
		return err
	})
	c.targets.forget(k)
	return f, err
}

func (c *Control) transaction(ctx context.Context, work func(*sql.Tx) error) error {
	tx, err := c.options.DB.BeginTx(ctx, nil)
	if err != nil {
		return sqlitedb.Kinded(err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing
	if err := work(tx); err != nil {
		return sqlitedb.Kinded(err)
	}
	return sqlitedb.Kinded(tx.Commit())
}

// page returns up to n functions of tenant whose names come after the one
// given, in bytewise order.
func (c *Control) page(ctx context.Context, tenant thaw.TenantID, after string, n int) ([]*Function, error) {
	return c.query(ctx, "SELECT record FROM control_function WHERE tenant = ? AND name > ? ORDER BY name LIMIT ?",
		string(tenant), after, n)
}

// unfinished returns the functions whose images are being prepared.
func (c *Control) unfinished(ctx context.Context) ([]*Function, error) {
	return c.query(ctx, "SELECT record FROM control_function WHERE preparing = 1 ORDER BY tenant, name")
}

func (c *Control) query(ctx context.Context, query string, args ...any) ([]*Function, error) {
	rows, err := c.options.DB.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what failed
	var list []*Function
	for rows.Next() {
		var record []byte
		if err := rows.Scan(&record); err != nil {
			return nil, err
		}
		f, err := decode(record)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, rows.Err()
}
