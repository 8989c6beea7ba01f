// SPDX-License-Identifier: Apache-2.0

// Package tenant keeps the accounts: who they are and the access key each one
// signs its requests with. It promises that an account it acknowledged is
// durable, that no two accounts share an id, a name or a key, and that a
// rotated key stops working. It knows nothing of functions or images.
package tenant

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"regexp"
	"sync"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/sqlitedb"
)

//go:embed migrations/*.sql
var migrations embed.FS

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

const (
	// cacheFor bounds how long a key that another process rotated goes on
	// being accepted by this one; rotation in this process counts at once.
	cacheFor = time.Second

	// cacheAccounts bounds the memory of the cache. Past it the cache starts
	// anew, which costs each active account one query.
	cacheAccounts = 10_000
)

// Account is a tenant with its one access key.
type Account struct {
	ID          thaw.TenantID `json:"id"`
	Name        string        `json:"name"`
	AccessKeyID string        `json:"accessKeyId"`      // 20 characters, begins with AKIA as clients expect
	Secret      string        `json:"secret,omitempty"` // 40 characters; whoever has it acts as the tenant
	Created     time.Time     `json:"created"`
}

// Accounts is the table of accounts. It is safe for concurrent use, by several
// processes on one database too.
type Accounts struct {
	db  *sql.DB
	now func() time.Time

	mu         sync.RWMutex
	cache      map[string]cached // by what was asked
	generation uint64            // counts invalidations, so that a reader can't store what one made stale
}

type cached struct {
	account Account
	until   time.Time
}

// Open brings the account tables of db up to date and returns the accounts. It
// does not own db.
func Open(ctx context.Context, db *sql.DB) (*Accounts, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, thaw.Wrap("open accounts", err)
	}
	if err := sqlitedb.Migrate(ctx, db, "tenant", files); err != nil {
		return nil, thaw.Wrap("open accounts", err)
	}
	return &Accounts{db: db, now: time.Now, cache: make(map[string]cached)}, nil
}

// Create makes an account with a fresh id and key. A name is 1 to 32 of a-z,
// 0-9 and "-". Errors: [thaw.Invalid] for another name, [thaw.Conflict] where
// the name is taken.
func (a *Accounts) Create(ctx context.Context, name string) (Account, error) {
	op := "create tenant " + name
	if !namePattern.MatchString(name) {
		return Account{}, thaw.Errorf("create tenant", thaw.Invalid,
			"%q is not a name: use 1 to 32 of a-z, 0-9 and '-'", name)
	}
	account := Account{Name: name, AccessKeyID: newAccessKeyID(), Secret: newSecret(),
		Created: a.now().UTC().Truncate(time.Millisecond)}
	err := a.write(ctx, func(tx *sql.Tx) error {
		taken, err := exists(ctx, tx, "SELECT 1 FROM tenant_account WHERE name = ?", name)
		if err != nil {
			return err
		}
		if taken {
			return thaw.Errorf("", thaw.Conflict, "this name is taken")
		}
		for taken = true; taken; {
			account.ID = newID()
			taken, err = exists(ctx, tx, "SELECT 1 FROM tenant_account WHERE id = ?", string(account.ID))
			if err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx,
			"INSERT INTO tenant_account (id, name, access_key_id, secret, created_ms) VALUES (?, ?, ?, ?, ?)",
			string(account.ID), account.Name, account.AccessKeyID, account.Secret, account.Created.UnixMilli())
		return err
	})
	if err != nil {
		return Account{}, thaw.Wrap(op, err)
	}
	return account, nil
}

// Rotate gives the account of that name a new access key and secret. The old
// key is refused from then on; by other processes within a second. The error
// is [thaw.NotFound] where there is no such account.
func (a *Accounts) Rotate(ctx context.Context, name string) (Account, error) {
	key, secret := newAccessKeyID(), newSecret()
	err := a.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE tenant_account SET access_key_id = ?, secret = ? WHERE name = ?",
			key, secret, name)
		return err
	})
	a.forget()
	if err != nil {
		return Account{}, thaw.Wrap("rotate keys of "+name, err)
	}
	return a.ByName(ctx, name)
}

// List returns all accounts in the order of their names.
func (a *Accounts) List(ctx context.Context) ([]Account, error) {
	rows, err := a.db.QueryContext(ctx, selectAccount+" ORDER BY name")
	if err != nil {
		return nil, thaw.Wrap("list tenants", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err says what failed
	var list []Account
	for rows.Next() {
		account, err := scanAccount(rows.Scan)
		if err != nil {
			return nil, thaw.Wrap("list tenants", err)
		}
		list = append(list, account)
	}
	return list, thaw.Wrap("list tenants", rows.Err())
}

// ByName returns the account of that name, or [thaw.NotFound].
func (a *Accounts) ByName(ctx context.Context, name string) (Account, error) {
	account, err := a.one(ctx, " WHERE name = ?", name)
	return account, thaw.Wrap("tenant "+name, err)
}

// ByID returns the account of that id, or [thaw.NotFound].
func (a *Accounts) ByID(ctx context.Context, id thaw.TenantID) (Account, error) {
	account, err := a.one(ctx, " WHERE id = ?", string(id))
	return account, thaw.Wrap("tenant "+string(id), err)
}

// ByAccessKey returns the account whose current key has that id, or
// [thaw.NotFound]. It answers from memory for a second after it asked the
// database.
func (a *Accounts) ByAccessKey(ctx context.Context, accessKeyID string) (Account, error) {
	account, err := a.remembered(ctx, " WHERE access_key_id = ?", accessKeyID)
	return account, thaw.Wrap("access key "+accessKeyID, err)
}

// Credential is [Accounts.ByAccessKey] in the form a verifier of signatures
// wants: the secret and who it belongs to.
func (a *Accounts) Credential(ctx context.Context, accessKeyID string) (secret string, id thaw.TenantID, err error) {
	account, err := a.ByAccessKey(ctx, accessKeyID)
	return account.Secret, account.ID, err
}

// CurrentKey returns the id of a tenant's access key, or [thaw.NotFound], and
// remembers it as [Accounts.ByAccessKey] does.
func (a *Accounts) CurrentKey(ctx context.Context, id thaw.TenantID) (accessKeyID string, err error) {
	account, err := a.remembered(ctx, " WHERE id = ?", string(id))
	return account.AccessKeyID, thaw.Wrap("tenant "+string(id), err)
}

// remembered is one, from memory for a second.
func (a *Accounts) remembered(ctx context.Context, where, value string) (Account, error) {
	now := a.now()
	a.mu.RLock()
	hit, ok := a.cache[where+value]
	generation := a.generation
	a.mu.RUnlock()
	if ok && now.Before(hit.until) {
		return hit.account, nil
	}
	account, err := a.one(ctx, where, value)
	if err != nil {
		return Account{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.generation == generation {
		if len(a.cache) >= cacheAccounts {
			clear(a.cache)
		}
		a.cache[where+value] = cached{account, now.Add(cacheFor)}
	}
	return account, nil
}

func (a *Accounts) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation++
	clear(a.cache)
}

func (a *Accounts) write(ctx context.Context, change func(*sql.Tx) error) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return sqlitedb.Kinded(err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing
	if err := change(tx); err != nil {
		return sqlitedb.Kinded(err)
	}
	return sqlitedb.Kinded(tx.Commit())
}

const selectAccount = "SELECT id, name, access_key_id, secret, created_ms FROM tenant_account"

func (a *Accounts) one(ctx context.Context, where, value string) (Account, error) {
	account, err := scanAccount(a.db.QueryRowContext(ctx, selectAccount+where, value).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, thaw.Errorf("", thaw.NotFound, "no such tenant")
	}
	return account, err
}

func scanAccount(scan func(...any) error) (Account, error) {
	var account Account
	var created int64
	err := scan(&account.ID, &account.Name, &account.AccessKeyID, &account.Secret, &created)
	account.Created = time.UnixMilli(created).UTC()
	return account, err
}

func exists(ctx context.Context, tx *sql.Tx, query, value string) (bool, error) {
	var one int
	err := tx.QueryRowContext(ctx, query, value).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
