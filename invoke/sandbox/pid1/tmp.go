// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"fmt"

	"thaw.dev/thaw/invoke/sandbox"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
)

// TakeTmp takes the /tmp of a prepared spec, and tells the sandbox's log if it
// is short.
func TakeTmp(store *tmpdisk.Store, spec sandbox.Spec) (*tmpdisk.Disk, error) {
	d, err := store.Take(spec.Owner, spec.TmpBytes)
	if err != nil {
		return nil, err
	}
	if line := d.Short(); line != "" && spec.Stderr != nil {
		_, _ = fmt.Fprintln(spec.Stderr, "[thaw] "+line)
	}
	return d, nil
}
