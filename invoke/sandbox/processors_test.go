// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"testing"

	"thaw.dev/thaw/invoke/sandbox"
)

// TestProcessorsFor: the numbers are those that programs counted at Lambda
// (github.com/rwnx/lambda-cpuinfo).
func TestProcessorsFor(t *testing.T) {
	for mb, want := range map[int64]int{
		128: 2, 512: 2, 1769: 2, 1770: 2, 3008: 2, 3009: 3, 5307: 3, 5308: 4, 7076: 4, 7077: 5, 8845: 5, 8846: 6, 10240: 6, 0: 6,
	} {
		if got := sandbox.ProcessorsFor(mb << 20); got != want {
			t.Errorf("%d MB: %d processors, want %d", mb, got, want)
		}
	}
}
