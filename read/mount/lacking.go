// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"path/filepath"
	"slices"

	"thaw.dev/thaw"
)

// Lacking returns those of the folders, all of them at or below dir, on which
// nothing is mounted. It reads the table of mounts and touches none of them.
func Lacking(dir string, folders []string) ([]string, error) {
	op := "look for mounts below " + dir
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	points, err := pointsBelow(dir)
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	var lacking []string
	for _, folder := range folders {
		path, err := filepath.Abs(folder)
		if err != nil {
			return nil, thaw.Wrap(op, err)
		}
		if !slices.Contains(points, path) {
			lacking = append(lacking, folder)
		}
	}
	return lacking, nil
}
