// SPDX-License-Identifier: Apache-2.0

package tmpdisk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/internal/testkit"
)

// TestFormat has e2fsck, which did not write it, read file systems of many
// sizes, those at the edges of a block group among them.
func TestFormat(t *testing.T) {
	testkit.RequireTool(t, "e2fsck")
	sizes := []int64{1, 1 << 20, 8 << 20, 512 << 20, 513 << 20, 1024 << 20, 10240 << 20}
	for d := int64(-2); d <= 2; d++ { // around the first and the fourth group's end
		sizes = append(sizes, (blocksPerGroup-groupBlocks-600+d)*blockSize, (4*blocksPerGroup-6*groupBlocks+d)*blockSize)
	}
	for last := int64(1); last < 2*groupBlocks; last += 37 {
		sizes = append(sizes, 3*(blocksPerGroup-groupBlocks)*blockSize+last*blockSize)
	}
	for _, bytes := range sizes {
		t.Run(fmt.Sprint(bytes), func(t *testing.T) {
			g := layout(bytes)
			if usable := (g.free - g.reserved) * blockSize; usable < bytes || usable > bytes+(64<<12) {
				t.Errorf("%d bytes are usable", usable)
			}
			path := filepath.Join(t.TempDir(), "disk")
			file, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if err := write(file, g, time.Now()); err != nil {
				t.Fatal(err)
			}
			// It misses the folder for what a check finds, and nothing else.
			out, err := exec.Command("e2fsck", "-n", "-f", path).CombinedOutput()
			text := string(out)
			complaints := strings.Count(text, "? no") - strings.Count(text, "/lost+found not found.  Create? no")
			if complaints != 0 || !strings.Contains(text, "Pass 5") {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}
