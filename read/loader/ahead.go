package loader

import (
	"context"
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
// that is beginning. The image's file is read, not the mount: a run is one
// large request, whatever files it is of, and what the start then reads is
// copied within the kernel.
func (c *Client) readAhead(r imageRequest) {
	c.supervised.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		runs, err := call[[]workingset.Run](ctx, c, "ahead", r)
		if err == nil && len(runs) > 0 {
			err = adviseRuns(c.file(r.Image), runs)
		}
		if err != nil {
			c.config.Log.Warn("a start is not fetched ahead", "image", r.Image, "err", err)
		}
	})
}

func adviseRuns(path string, runs []workingset.Run) error {
	return advise(path, func(fd int) error {
		for _, r := range runs {
			from, end := int64(r.Block)*thaw.BlockBytes, int64(r.Block+r.Blocks)*thaw.BlockBytes
			for ; from < end; from += mount.MaxReadBytes { // one call reads no more than that
				if err := unix.Fadvise(fd, from, min(end-from, mount.MaxReadBytes), unix.FADV_WILLNEED); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// dropFile gives up what the kernel has cached of an image's file from an offset
// on: what was read of the mount's files is cached with them, too. The metadata
// before is cached here alone.
func (c *Client) dropFile(id thaw.ImageID, from int64) {
	err := advise(c.file(id), func(fd int) error { return unix.Fadvise(fd, from, 0, unix.FADV_DONTNEED) })
	if err != nil {
		c.config.Log.Warn("an image's file stays cached twice", "image", id, "err", err)
	}
}

// advise opens a file of the mount. It does not use package os, which would ask
// whether the file can be polled.
func advise(path string, do func(fd int) error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return thaw.Wrap("open "+path, err)
	}
	defer unix.Close(fd)
	return thaw.Wrap("advise "+path, do(fd))
}
