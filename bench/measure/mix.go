// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"thaw.dev/thaw/read/holder"
)

// Mix is ten images of three runtimes, versions and updated bases among them, as
// a worker has them: what they share is in the store once.
var Mix = []string{
	"go-hello:1", "go-hello:2", "go-hello:3", "go-hello:4", "node-api:1", "node-api:2", "node-api:3", "py-hello:1", "py-hello:2", "py-hello:3",
}

// CreateMix pushes the images of [Mix] and makes n functions of them, the i-th
// of image i mod 10. It returns their names.
func (b *Bench) CreateMix(ctx context.Context, layout string, n int) ([]string, error) {
	var functions []string
	for i := range n {
		tag := Mix[i%len(Mix)]
		if i < len(Mix) {
			if err := b.Push(ctx, layout, tag); err != nil {
				return nil, err
			}
		}
		function := fmt.Sprintf("mix-%02d", i)
		if err := b.CreatePushed(ctx, tag, function); err != nil {
			return nil, fmt.Errorf("%s: %w", tag, err)
		}
		functions = append(functions, function)
	}
	return functions, nil
}

// dropWait bounds how long the sandboxes that use images may take to end.
const dropWait = time.Minute

// Empty empties the kernel's caches of all images and, if tier is l1 and not
// kernel, the worker's own cache. It waits for the sandboxes that use an image to
// end, which something else has to bring about.
func (b *Bench) Empty(ctx context.Context, tier string) error {
	mounts := holder.MountsDir(filepath.Join(b.Data, "run", "read"))
	for deadline := time.Now().Add(dropWait); ; time.Sleep(50 * time.Millisecond) {
		if _, err := b.Thaw(ctx, "cache", "drop", tier); err != nil {
			return err
		}
		mounted, err := filepath.Glob(filepath.Join(mounts, "*-*")) // beside them is the loader's own folder
		if err != nil || len(mounted) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d images are still in use after %v", len(mounted), dropWait)
		}
	}
}
