// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"strings"
	"testing"

	"thaw.dev/thaw"
)

// FuzzReader: any bytes are read or refused as corrupt, with their checksum
// made right, so that the fuzzer gets behind it. The seeds are short, since
// the fuzzer is slow on long ones: images without data, and without the zeros
// at their end, which are put back.
func FuzzReader(f *testing.F) {
	attributed := with(file(1, 0), func(in *Inode) { in.Xattrs = []Xattr{{"user.a", []byte("1")}, {"system.posix_acl_access", acl(1)}} })
	for _, root := range []*Inode{dir(), typesTree(), dir(Entry{"a", attributed}, Entry{"b", dir(Entry{"c", attributed})}), dir(Entry{"l", symlink("to")})} {
		removeData(root)
		f.Add(bytes.TrimRight(build(f, root).bytes, "\x00"))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		whole := make([]byte, roundUp(int64(len(image)), blockBytes))
		copy(whole, image)
		fixChecksum(whole)
		if err := readAll(bytes.NewReader(whole), int64(len(whole))); err != nil && thaw.KindOf(err) != thaw.Corrupt {
			t.Fatalf("not told as corrupt: %v", err)
		}
	})
}

// removeData makes every file of a tree empty.
func removeData(in *Inode) {
	if in.IsRegular() {
		in.Size = 0
	}
	for _, e := range in.Entries {
		removeData(e.Inode)
	}
}

// FuzzPlan: whatever the names, targets and attributes, a tree is refused as
// invalid or reads back as it was.
func FuzzPlan(f *testing.F) {
	f.Add("name", "target", "user.x", []byte("value"), uint32(modeRegular|0o644), int64(5000), 3)
	f.Add("..", "", "security.capability", capability(), uint32(modeDir|0o755), int64(-1), 200)
	f.Add("a/b", strings.Repeat("t", 4095), "system.posix_acl_access", acl(1), uint32(modeSymlink|0o777), int64(0), 1)
	f.Fuzz(func(t *testing.T, name, target, attr string, value []byte, mode uint32, size int64, copies int) {
		if size > 1<<20 {
			return
		}
		root := dir()
		for i := range copies & 0xff {
			in := &Inode{Mode: mode, Target: target, Size: size, Xattrs: []Xattr{{attr, value}}}
			root.Entries = append(root.Entries, Entry{name + strings.Repeat("x", i), in})
		}
		if _, err := NewPlan(root); err != nil {
			if thaw.KindOf(err) != thaw.Invalid {
				t.Fatalf("not told as invalid: %v", err)
			}
			return
		}
		im := build(t, root)
		sameLines(t, listReader(t, im.reader(t)), im.want())
	})
}
