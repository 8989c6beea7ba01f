// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// diskName is how the kernel names what the disks of a host are told by: loop
// devices, by name or number, and mounts of images.
var diskName = regexp.MustCompile(`\b(loop[0-9]+|7:[0-9]+|erofs-[0-9]+)\b`)

// disks answers with all paths of /sys and /proc, but for those of processes,
// that name such a disk, or are files that do.
func disks([]string) {
	const most = 1 << 20 // of a file
	found := []string{}
	_ = filepath.WalkDir("/sys", func(path string, e fs.DirEntry, err error) error {
		switch {
		case path == "/sys/dev/char": // other devices have these numbers there
			return fs.SkipDir
		case err == nil && diskName.MatchString(e.Name()):
			found = append(found, path)
		}
		return nil
	})
	top, _ := filepath.Glob("/proc/[a-z]*")
	below, _ := filepath.Glob("/proc/fs/*/*")
	for _, path := range append(top, below...) {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			continue
		}
		hit := diskName.MatchString(path)
		if f, err := os.Open(path); err == nil && info.Mode().IsRegular() {
			text, _ := io.ReadAll(io.LimitReader(f, most))
			hit = hit || diskName.Match(text)
			_ = f.Close()
		}
		if hit {
			found = append(found, path)
		}
	}
	answer(found)
}
