// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"thaw.dev/thaw"
	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/mount"
)

// CheckMounts looks whether what the client has mounted is still mounted: the
// files of the images, and each image. It is cheap and asks no other process.
func (c *Client) CheckMounts() error {
	folders := []string{holder.FilesDir(c.config.RunDir)}
	c.mounts.mu.Lock()
	images := make([]*mounted, 0, len(c.mounts.byID))
	for _, m := range c.mounts.byID {
		images = append(images, m)
	}
	c.mounts.mu.Unlock()
	for _, m := range images {
		if !m.mu.TryLock() {
			continue // it is being mounted, or unmounted
		}
		if m.done && !m.gone {
			folders = append(folders, m.dir)
		}
		m.mu.Unlock()
	}
	lacking, err := mount.Lacking(c.config.RunDir, folders)
	if err == nil && len(lacking) > 0 {
		err = thaw.Errorf("check the mounts", thaw.Lost, "nothing is mounted on %s any more", lacking[0])
	}
	return err
}
