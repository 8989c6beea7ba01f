// SPDX-License-Identifier: Apache-2.0

package l1

import (
	"testing"

	"thaw.dev/thaw/read/tier/tiertest"
)

func TestSuite(t *testing.T) {
	t.Run("Memory", func(t *testing.T) {
		tiertest.Cache(t, func(*testing.T) tiertest.Opened {
			return tiertest.Opened{Cache: NewMemory(16 << 20)}
		})
	})
	t.Run("Disk", func(t *testing.T) {
		tiertest.Cache(t, func(t *testing.T) tiertest.Opened {
			l := open(t, Options{Dir: t.TempDir()})
			t.Cleanup(func() { l.Close() })
			return tiertest.Opened{Cache: l.Disk, Settle: func() { flush(t, l.Disk) }}
		})
	})
}
