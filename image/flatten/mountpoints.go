// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"errors"

	"thaw.dev/thaw"
)

// AddedMountPoints are the paths that [MergeOptions.MountPoints] adds where the
// image has nothing there: what is mounted in every sandbox.
func AddedMountPoints() []string {
	var paths []string
	for _, p := range mountPoints() {
		paths = append(paths, "/"+p.path)
	}
	return paths
}

type mountPoint struct {
	path string
	mode uint32
	own  bool // a kernel's file system: nothing but a directory of this name will do
}

func mountPoints() []mountPoint {
	return []mountPoint{
		{"dev", modeDir | 0o755, true},
		{"proc", modeDir | 0o555, true},
		{"sys", modeDir | 0o555, true},
		{"tmp", modeDir | 0o1777, false},
		{"etc", modeDir | 0o755, false},
		{"etc/hosts", modeRegular | 0o644, false},
		{"etc/resolv.conf", modeRegular | 0o644, false},
	}
}

func (p mountPoint) isDir() bool { return p.mode&modeDir != 0 }

// addMountPoints makes what is missing of the mount points, at the end of the
// symbolic links that lead to them. An image with something else at such a
// place is [thaw.Invalid]: no sandbox could be made of it.
func (m *merger) addMountPoints() error {
	m.layer++
	m.max = max(m.max, m.nodes) + maxSymlinks*len(mountPoints()) // these few names always fit
	for _, p := range mountPoints() {
		n, err := m.mountPoint(p)
		if err != nil {
			return err
		}
		if p.isDir() && p.path != "etc" {
			m.mounted = append(m.mounted, n)
		}
	}
	return nil
}

// mountPoint finds or makes one. It returns nil for a file whose links lead
// into a directory that is mounted over, or where no process can follow: such a
// file belongs to the image.
func (m *merger) mountPoint(p mountPoint) (*node, error) {
	if link := m.root.children[p.path]; p.own && link != nil && !link.isDir() {
		return nil, badMountPoint(p, "%s", describeNode(link))
	}
	m.walkable = true
	err := m.resolve(p.path)
	m.walkable = false
	inside := m.covered()
	switch {
	case errors.Is(err, errNoWay) && !p.isDir():
		return nil, nil
	case errors.Is(err, errNoWay):
		return nil, badMountPoint(p, "a symbolic link through something that is not a directory, or is mounted over,")
	case err != nil:
		return nil, badMountPoint(p, "a symbolic link that leads in circles")
	case inside && !p.isDir():
		return nil, nil
	case inside:
		return nil, badMountPoint(p, "a symbolic link into /dev, /proc, /sys or /tmp")
	case len(m.missing) > 0:
		return m.makeMountPoint(p)
	case m.last() == m.root:
		return nil, badMountPoint(p, "a symbolic link to the root")
	case m.last().isDir() != p.isDir() || !p.isDir() && !m.last().inode.IsRegular():
		return nil, badMountPoint(p, "%s", describeNode(m.last()))
	}
	return m.last(), nil
}

// makeMountPoint makes what resolve did not find.
func (m *merger) makeMountPoint(p mountPoint) (*node, error) {
	if !m.last().isDir() {
		return nil, badMountPoint(p, "a name below something that is not a directory")
	}
	base := m.missing[len(m.missing)-1]
	m.missing = m.missing[:len(m.missing)-1]
	if err := m.makeMissing(p.path); err != nil {
		return nil, badMountPoint(p, "a symbolic link to a name that is too long")
	}
	e := entry{kind: kindDir, mode: p.mode, ordinal: -1}
	if !p.isDir() {
		e.kind = kindRegular
	}
	parent := m.last()
	if err := m.place(parent, base, &e); err != nil {
		return nil, badMountPoint(p, "a symbolic link to a name that is too long")
	}
	return parent.children[base], nil
}

func badMountPoint(p mountPoint, what string, args ...any) error {
	want := "a directory"
	if !p.isDir() {
		want = "a regular file"
	}
	args = append([]any{p.path}, append(args, want)...)
	return thaw.Errorf("flatten", thaw.Invalid, "/%s is "+what+" in this image, and every sandbox needs %s there: remove it from the image, or make it one", args...)
}

// describeNode names what stands at a path.
func describeNode(n *node) string {
	switch n.inode.Mode &^ modePerm {
	case modeDir:
		return "a directory"
	case modeRegular:
		return "a regular file"
	case modeSymlink:
		return "a symbolic link"
	case modeFIFO:
		return "a FIFO"
	case modeChar, modeBlock:
		return "a device"
	}
	return "a special file"
}
