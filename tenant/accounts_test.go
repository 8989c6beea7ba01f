// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/sqlitedb"
)

func openDB(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sqlitedb.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openAccounts(t *testing.T, path string) *Accounts {
	t.Helper()
	accounts, err := Open(t.Context(), openDB(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return accounts
}

func TestAccountsAreFoundAgainAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	first := openAccounts(t, path)
	made, err := first.Create(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for pattern, value := range map[string]string{
		`^[1-9][0-9]{11}$`:    string(made.ID),
		`^AKIA[A-Z2-7]{16}$`:  made.AccessKeyID,
		`^[A-Za-z0-9]{40}$`:   made.Secret,
		`^20[0-9]{2}-.* UTC$`: made.Created.String(),
	} {
		if !regexp.MustCompile(pattern).MatchString(value) {
			t.Errorf("%q does not match %s", value, pattern)
		}
	}
	again := openAccounts(t, path)
	byName, err1 := again.ByName(t.Context(), "acme")
	byKey, err2 := again.ByAccessKey(t.Context(), made.AccessKeyID)
	byID, err3 := again.ByID(t.Context(), made.ID)
	for i, got := range []Account{byName, byKey, byID} {
		if got != made {
			t.Errorf("%d: got %+v, want %+v (%v, %v, %v)", i, got, made, err1, err2, err3)
		}
	}
	secret, id, err := again.Credential(t.Context(), made.AccessKeyID)
	if secret != made.Secret || id != made.ID || err != nil {
		t.Errorf("credential: %q, %q, %v", secret, id, err)
	}
}

// What thaw tenant --json prints, for programs.
func TestAccountAsJSON(t *testing.T) {
	a := Account{ID: "000000000001", Name: "a", AccessKeyID: "AKIA", Secret: "s", Created: time.Unix(0, 0).UTC()}
	for want, account := range map[string]Account{
		`{"id":"000000000001","name":"a","accessKeyId":"AKIA","secret":"s","created":"1970-01-01T00:00:00Z"}`: a,
		`{"id":"000000000002","name":"","accessKeyId":"","created":"1970-01-01T00:00:00Z"}`:                   {ID: "000000000002", Created: a.Created},
	} {
		if got, err := json.Marshal(account); err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
}

func TestAccountErrors(t *testing.T) {
	accounts := openAccounts(t, filepath.Join(t.TempDir(), "x.db"))
	if _, err := accounts.Create(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "Acme", "a b", "a_b", "ä", "a\n", fmt.Sprintf("%033d", 1)} {
		if _, err := accounts.Create(t.Context(), name); thaw.KindOf(err) != thaw.Invalid {
			t.Errorf("create %q: %v, want invalid", name, err)
		}
	}
	if _, err := accounts.Create(t.Context(), "acme"); thaw.KindOf(err) != thaw.Conflict {
		t.Errorf("second create: %v, want a conflict", err)
	}
	_, byName := accounts.ByName(t.Context(), "none")
	_, byID := accounts.ByID(t.Context(), "123456789012")
	_, byKey := accounts.ByAccessKey(t.Context(), "AKIANONE")
	_, rotated := accounts.Rotate(t.Context(), "none")
	for i, err := range []error{byName, byID, byKey, rotated} {
		if thaw.KindOf(err) != thaw.NotFound {
			t.Errorf("%d: %v, want not found", i, err)
		}
	}
}

func TestRotatedKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	accounts, other := openAccounts(t, path), openAccounts(t, path)
	clock := time.Now()
	other.now = func() time.Time { return clock }
	old, err := accounts.Create(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Accounts{accounts, other} { // both now hold it in memory
		if _, err := a.ByAccessKey(t.Context(), old.AccessKeyID); err != nil {
			t.Fatal(err)
		}
		if key, err := a.CurrentKey(t.Context(), old.ID); err != nil || key != old.AccessKeyID {
			t.Fatalf("its key is %s, %v", key, err)
		}
	}
	fresh, err := accounts.Rotate(t.Context(), "acme")
	if err != nil || fresh.ID != old.ID || fresh.AccessKeyID == old.AccessKeyID || fresh.Secret == old.Secret {
		t.Fatalf("rotated to %+v, %v", fresh, err)
	}
	if key, err := accounts.CurrentKey(t.Context(), old.ID); err != nil || key != fresh.AccessKeyID {
		t.Errorf("after a rotation its key is %s, %v", key, err)
	}
	if _, err := accounts.ByAccessKey(t.Context(), old.AccessKeyID); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("the old key still answers: %v", err)
	}
	clock = clock.Add(cacheFor)
	if _, err := other.ByAccessKey(t.Context(), old.AccessKeyID); thaw.KindOf(err) != thaw.NotFound {
		t.Errorf("the old key still answers in another process after %v: %v", cacheFor, err)
	}
	if got, err := other.ByAccessKey(t.Context(), fresh.AccessKeyID); got != fresh {
		t.Errorf("the new key gives %+v, %v", got, err)
	}
}

func TestListIsComplete(t *testing.T) {
	accounts := openAccounts(t, filepath.Join(t.TempDir(), "x.db"))
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if _, err := accounts.Create(t.Context(), fmt.Sprintf("t-%02d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	list, err := accounts.List(t.Context())
	if err != nil || len(list) != 20 {
		t.Fatalf("%d accounts, %v", len(list), err)
	}
	seen := map[string]bool{}
	for i, account := range list {
		if account.Name != fmt.Sprintf("t-%02d", i) || seen[string(account.ID)] || seen[account.AccessKeyID] {
			t.Errorf("%d: %+v", i, account)
		}
		seen[string(account.ID)], seen[account.AccessKeyID] = true, true
	}
}
