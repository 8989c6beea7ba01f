// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/mount"
	"thaw.dev/thaw/read/workingset"
)

// file is the path of an image as a file of the mount.
func (c *Client) file(id thaw.ImageID) string {
	return filepath.Join(holder.FilesDir(c.config.RunDir), id.String())
}

// readAhead has the kernel read what earlier starts have read, beside the start
// that is beginning. The image's file is read, not the mount, which need not be
// there yet: a run is one large request, whatever files it is of, and what the
// start then reads is copied within the kernel.
func (c *Client) readAhead(id thaw.ImageID, opened openAnswer) {
	if len(opened.Ahead) == 0 {
		return
	}
	file, err := c.images.Open(c.file(id)) // before the mount, which narrows what is read ahead
	if err != nil {
		c.config.Log.Warn("a start is not read ahead", "image", id, "err", err)
		return
	}
	c.supervised.Go(func() {
		defer file.Close()
		set, err := workingset.Decode(opened.Ahead, opened.ImageBytes)
		if err == nil {
			err = adviseRuns(file, set.Runs)
		}
		if err != nil {
			c.config.Log.Warn("a start is not read ahead", "image", id, "err", err)
		}
	})
}

func adviseRuns(file *os.File, runs []workingset.Run) error {
	for _, r := range runs {
		from, end := int64(r.Block)*thaw.BlockBytes, int64(r.Block+r.Blocks)*thaw.BlockBytes
		for ; from < end; from += mount.MaxReadBytes { // one call reads no more than that
			if err := unix.Fadvise(int(file.Fd()), from, min(end-from, mount.MaxReadBytes), unix.FADV_WILLNEED); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropFile gives up what the kernel has cached of an image's file from an offset
// on: what was read of the mount's files is cached with them, too. The metadata
// before is cached here alone.
func (c *Client) dropFile(id thaw.ImageID, from int64) {
	file, err := c.images.Open(c.file(id))
	if err == nil {
		err = errors.Join(unix.Fadvise(int(file.Fd()), from, 0, unix.FADV_DONTNEED), file.Close())
	}
	if err != nil {
		c.config.Log.Warn("an image's file stays cached twice", "image", id, "err", err)
	}
}
