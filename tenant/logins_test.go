// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/tenant/keys"
)

const password = "correct-horse-battery-staple"

// TestLogins: what is stored comes back for its owner alone, over a restart
// too, and is gone with a logout and with the account.
func TestLogins(t *testing.T) {
	folder := t.TempDir()
	local, err := keys.OpenLocal(filepath.Join(folder, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "x.db")
	accounts := openAccounts(t, path)
	alice, err1 := accounts.Create(t.Context(), "alice")
	bob, err2 := accounts.Create(t.Context(), "bob")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	logins := accounts.Logins(local)
	for _, p := range []string{"old", password} {
		if err := logins.Put(t.Context(), alice.ID, "registry.example", "al", p); err != nil {
			t.Fatal(err)
		}
	}
	if err := local.Rotate(t.Context(), alice.ID); err != nil {
		t.Fatal(err)
	}
	logins = openAccounts(t, path).Logins(local)
	for _, try := range []struct {
		who            thaw.TenantID
		registry       string
		user, password string
	}{{alice.ID, "registry.example", "al", password}, {alice.ID, "other.example", "", ""}, {bob.ID, "registry.example", "", ""}} {
		user, got, err := logins.Get(t.Context(), try.who, try.registry)
		if user != try.user || got != try.password || err != nil {
			t.Errorf("%s at %s: %q, %q, %v", try.who, try.registry, user, got, err)
		}
	}
	list, err := logins.List(t.Context(), alice.ID)
	if err != nil || len(list) != 1 || list[0].Registry != "registry.example" || list[0].User != "al" {
		t.Errorf("list: %+v, %v", list, err)
	}
	if err := logins.Delete(t.Context(), bob.ID, "registry.example"); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("bob logs alice out: %v", err)
	}
	if err := logins.Put(t.Context(), bob.ID, "registry.example", "bo", password); err != nil {
		t.Fatal(err)
	}
	if err := logins.Delete(t.Context(), bob.ID, "registry.example"); err != nil {
		t.Error(err)
	}
	if _, err := accounts.db.ExecContext(t.Context(), "DELETE FROM tenant_account WHERE id = ?", string(alice.ID)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []thaw.TenantID{alice.ID, bob.ID} {
		if user, got, err := logins.Get(t.Context(), id, "registry.example"); user != "" || got != "" || err != nil {
			t.Errorf("%s after the end: %q, %q, %v", id, user, got, err)
		}
	}
}

// TestLoginsAreSealed: no file of the data folder shows a password, and a
// sealed one opens in its own row only.
func TestLoginsAreSealed(t *testing.T) {
	folder := t.TempDir()
	local, err := keys.OpenLocal(filepath.Join(folder, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	accounts := openAccounts(t, filepath.Join(folder, "x.db"))
	alice, err := accounts.Create(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	logins := accounts.Logins(local)
	if err := logins.Put(t.Context(), alice.ID, "registry.example", "al", password); err != nil {
		t.Fatal(err)
	}
	needles := []string{password, hex.EncodeToString([]byte(password)), base64.StdEncoding.EncodeToString([]byte(password))}
	seen := false
	err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		seen = seen || bytes.Contains(data, []byte("registry.example"))
		for _, needle := range needles {
			if strings.Contains(string(data), needle) {
				t.Errorf("%s shows the password", path)
			}
		}
		return err
	})
	if err != nil || !seen {
		t.Errorf("the login is in no file (%v)", err)
	}
	for _, change := range []string{"registry = 'evil.example'", "username = 'mallory'"} {
		if _, err := accounts.db.ExecContext(t.Context(), "UPDATE tenant_registry_login SET "+change); err != nil {
			t.Fatal(err)
		}
		for _, registry := range []string{"registry.example", "evil.example"} {
			if _, got, _ := logins.Get(t.Context(), alice.ID, registry); got != "" {
				t.Errorf("after %s %s has the password", change, registry)
			}
		}
	}
}

func TestBadLogins(t *testing.T) {
	folder := t.TempDir()
	local, err := keys.OpenLocal(filepath.Join(folder, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	logins := openAccounts(t, filepath.Join(folder, "x.db")).Logins(local)
	for _, bad := range [][3]string{{"", "u", "p"}, {"r", "", "p"}, {"r", "u", ""}, {"r", "u", strings.Repeat("p", maxPasswordBytes+1)}} {
		if err := logins.Put(t.Context(), "111111111111", bad[0], bad[1], bad[2]); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}
