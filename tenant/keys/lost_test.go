// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/tenant/keys"
)

// TestALostKeySetIsOurFault: whatever becomes of a key set, the tenant is not
// told that it may not have its own; and a key set that was there is not
// replaced by a new one, which would open nothing.
func TestALostKeySetIsOurFault(t *testing.T) {
	const tenant = thaw.TenantID("111111111111")
	for name, harm := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"folder":  func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			local, err := keys.OpenLocal(dir)
			if err != nil {
				t.Fatal(err)
			}
			wrapped, err := local.Wrap(t.Context(), tenant, []byte("key"), []byte("use"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := local.Unwrap(t.Context(), tenant, wrapped, []byte("another use")); thaw.KindOf(err) != thaw.Denied {
				t.Errorf("another use: %v", err)
			}
			if err := local.Check([]thaw.TenantID{tenant}); err != nil {
				t.Error(err)
			}
			if err := harm(filepath.Join(dir, "tenant-"+string(tenant)+".json")); err != nil {
				t.Fatal(err)
			}
			if err := local.Check([]thaw.TenantID{tenant}); name != "emptied" && !strings.Contains(fmt.Sprint(err), "restore it from a backup") {
				t.Errorf("%v: an operator is not told what to do", err)
			}
			_, unwrapErr := local.Unwrap(t.Context(), tenant, wrapped, []byte("use"))
			_, wrapErr := local.Wrap(t.Context(), tenant, []byte("key"), []byte("use"))
			for what, err := range map[string]error{"Unwrap": unwrapErr, "Wrap": wrapErr, "Check": local.Check([]thaw.TenantID{tenant})} {
				switch thaw.KindOf(err) {
				case thaw.Lost, thaw.Corrupt, thaw.Internal:
					if err == nil {
						t.Errorf("%s says nothing", what)
					}
				default:
					t.Errorf("%s: %v: %v", what, thaw.KindOf(err), err)
				}
			}
		})
	}
}
