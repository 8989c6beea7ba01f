// SPDX-License-Identifier: Apache-2.0

package flatten

import (
	"errors"
	"slices"
	"strings"

	"thaw.dev/thaw"
)

// splitName returns the directory part of a cleaned name, without the slash at
// its end, and its last element.
func splitName(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// last returns the deepest node that resolve found.
func (m *merger) last() *node { return m.chain[len(m.chain)-1] }

// resolve follows a path from the root, symbolic links included, as a process
// in a chroot would, and sets chain and missing. What does not exist, or stands
// below something other than a directory, is taken at its word: its names are
// in missing. The error is [thaw.Invalid] for links that go round in circles.
// Where walkable is set, directories are made so that a process can follow links
// that lead up again from what does not exist; where that can't be the error is
// [errNoWay].
func (m *merger) resolve(path string) error {
	m.chain, m.missing = append(m.chain[:0], m.root), m.missing[:0]
	links := 0
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if m.steps++; m.steps > maxSteps {
			return thaw.Errorf(op(m.name), thaw.Invalid, "its names go through too many symbolic links")
		}
		switch name {
		case "", ".":
			continue
		case "..":
			if err := m.up(path); err != nil {
				return err
			}
			continue
		}
		child := m.child(name)
		switch {
		case child == nil:
			m.missing = append(m.missing, name)
		case child.inode.Target == "":
			m.chain = append(m.chain, child)
		default:
			if links++; links > maxSymlinks {
				return invalid(m.name, path, "goes through more than %d symbolic links", maxSymlinks)
			}
			if child.inode.Target[0] == '/' {
				m.chain = m.chain[:1]
			}
			rest = child.inode.Target + "/" + rest
		}
	}
	return nil
}

// errNoWay says that a process can't follow links.
var errNoWay = errors.New("symbolic links lead through something that is not a directory")

// up goes to the directory above, the root being above itself. If a process is
// to get there too, what it comes through must be a directory that it sees.
func (m *merger) up(path string) error {
	if m.walkable && (m.covered() || m.makeMissing(path) != nil) {
		return errNoWay
	}
	switch {
	case len(m.missing) > 0:
		m.missing = m.missing[:len(m.missing)-1]
	case len(m.chain) > 1:
		m.chain = m.chain[:len(m.chain)-1]
	}
	return nil
}

// covered reports whether what was last resolved is, or is below, what
// something is mounted on in a sandbox.
func (m *merger) covered() bool {
	return slices.ContainsFunc(m.mounted, func(n *node) bool { return slices.Contains(m.chain, n) })
}

func (m *merger) child(name string) *node {
	if len(m.missing) > 0 {
		return nil
	}
	return m.last().children[name]
}

// makeMissing makes the directories that resolve did not find, and marks the
// whole path as touched by this layer, as an entry is about to be made at its end.
func (m *merger) makeMissing(entry string) error {
	if !m.last().isDir() {
		return invalid(m.name, entry, "is below something that is not a directory")
	}
	for _, name := range m.missing {
		if len(name) > maxBaseBytes {
			return invalid(m.name, entry, "goes through a symbolic link to a name of more than 255 bytes")
		}
		dir, err := m.add(m.last(), name, undescribed(m.last().inode))
		if err == nil {
			err = m.charge(dir, entry, false)
		}
		if err != nil {
			return err
		}
		m.chain = append(m.chain, dir)
	}
	m.missing = m.missing[:0]
	for _, n := range m.chain {
		n.touched = m.layer
	}
	return nil
}
