// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"database/sql"
	"errors"
	"time"

	thaw "thaw.dev/thaw"
)

// maxPasswordBytes is above the longest passwords in use, tokens of cloud
// registries of up to 4 KiB.
const maxPasswordBytes = 16 << 10

// Login is a tenant's login at a registry other than ours, without its
// password.
type Login struct {
	Registry string // host[:port], lower case
	User     string
	Changed  time.Time
}

// Logins keeps the logins of tenants at other registries: one for each tenant
// and registry. Passwords are at rest only sealed under the tenant's key, and
// go with the tenant's account. It is safe for concurrent use.
type Logins struct {
	db   *sql.DB
	keys thaw.KeyWrapper
}

// Logins returns the logins of these accounts, whose passwords keys seals.
func (a *Accounts) Logins(keys thaw.KeyWrapper) *Logins { return &Logins{db: a.db, keys: keys} }

// Put stores a login and replaces the one that was there. Errors:
// [thaw.Invalid] for an empty member or a password over 16 KiB.
func (l *Logins) Put(ctx context.Context, tenant thaw.TenantID, registry, user, password string) error {
	op := "log in to " + registry
	if registry == "" || user == "" || password == "" {
		return thaw.Errorf(op, thaw.Invalid, "a registry, a user and a password are needed")
	}
	if len(password) > maxPasswordBytes {
		return thaw.Errorf(op, thaw.Invalid, "the password has %d bytes, more than %d", len(password), maxPasswordBytes)
	}
	sealed, err := l.keys.Wrap(ctx, tenant, []byte(password), loginContext(registry, user))
	if err != nil {
		return thaw.OurFault(op, err)
	}
	_, err = l.db.ExecContext(ctx, `INSERT OR REPLACE INTO tenant_registry_login
		(tenant, registry, username, sealed, changed_ms) VALUES (?, ?, ?, ?, ?)`,
		string(tenant), registry, user, sealed, time.Now().UnixMilli())
	return thaw.Wrap(op, err)
}

// loginContext binds a sealed password to its use: moved to another row it
// does not open.
func loginContext(registry, user string) []byte {
	return []byte("registry login\x00" + registry + "\x00" + user)
}

// Get returns the user and the password of a tenant at a registry; both are
// empty where the tenant has no login there.
func (l *Logins) Get(ctx context.Context, tenant thaw.TenantID, registry string) (user, password string, err error) {
	op := "login at " + registry
	var sealed []byte
	err = l.db.QueryRowContext(ctx, "SELECT username, sealed FROM tenant_registry_login WHERE tenant = ? AND registry = ?",
		string(tenant), registry).Scan(&user, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", nil
	}
	if err != nil {
		return "", "", thaw.Wrap(op, err)
	}
	plain, err := l.keys.Unwrap(ctx, tenant, sealed, loginContext(registry, user))
	if err != nil { // it was sealed with this key, and for nobody else
		return "", "", thaw.OurFault(op, err)
	}
	return user, string(plain), nil
}

// List returns a tenant's logins in the order of their registries.
func (l *Logins) List(ctx context.Context, tenant thaw.TenantID) ([]Login, error) {
	const op = "list registry logins"
	rows, err := l.db.QueryContext(ctx,
		"SELECT registry, username, changed_ms FROM tenant_registry_login WHERE tenant = ? ORDER BY registry", string(tenant))
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err says what failed
	list := []Login{}
	for rows.Next() {
		var login Login
		var changed int64
		if err := rows.Scan(&login.Registry, &login.User, &changed); err != nil {
			return nil, thaw.Wrap(op, err)
		}
		login.Changed = time.UnixMilli(changed).UTC()
		list = append(list, login)
	}
	return list, thaw.Wrap(op, rows.Err())
}

// Delete removes a login; [thaw.NotFound] where there is none.
func (l *Logins) Delete(ctx context.Context, tenant thaw.TenantID, registry string) error {
	op := "log out of " + registry
	result, err := l.db.ExecContext(ctx, "DELETE FROM tenant_registry_login WHERE tenant = ? AND registry = ?", string(tenant), registry)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return thaw.Wrap(op, err)
	}
	return thaw.Errorf(op, thaw.NotFound, "there is no login at this registry; \"thaw registry ls\" lists them")
}
