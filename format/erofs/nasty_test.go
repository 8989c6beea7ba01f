// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

func dir(entries ...Entry) *Inode { return &Inode{Mode: modeDir | 0o755, Entries: entries} }

func file(ref int32, size int64) *Inode {
	return &Inode{Mode: modeRegular | 0o644, Ref: ref, Size: size, Mtime: 1_700_000_000 + int64(ref)}
}

func symlink(target string) *Inode { return &Inode{Mode: modeSymlink | 0o777, Target: target} }

func with(in *Inode, change func(*Inode)) *Inode {
	change(in)
	return in
}

func device(kind uint32, major, minor uint32) *Inode {
	return &Inode{Mode: kind | 0o600, Rdev: uint32(unix.Mkdev(major, minor))}
}

// namedTree is a tree of the tests; each call makes a new one.
type namedTree struct {
	name string
	root func() *Inode
}

// nastyTrees are trees with whatever an image may hold that a file system
// writer may get wrong.
func nastyTrees() []namedTree {
	return []namedTree{
		{"empty", func() *Inode { return dir() }},
		{"types", typesTree},
		{"attributes", attributesTree},
		{"names", namesTree},
		{"links", linksTree},
		{"xattrs", xattrsTree},
		{"sizes", sizesTree},
		{"large-directory", func() *Inode { return largeTree(100_000) }},
		{"deep", func() *Inode { return deepTree(600) }},
	}
}

func typesTree() *Inode {
	return dir(
		Entry{"file", file(1, 5)}, Entry{"empty", file(2, 0)}, Entry{"link", symlink("file")}, Entry{"dangling", symlink("/no/where")},
		Entry{"dir", dir(Entry{"inner", dir(Entry{"x", file(3, 1)})})}, Entry{"null", device(modeChar, 1, 3)},
		Entry{"disk", device(modeBlock, 259, 1)}, Entry{"far", device(modeChar, 4095, 1<<20-1)},
		Entry{"minor256", device(modeBlock, 8, 256)}, Entry{"zero", device(modeChar, 0, 0)},
		Entry{"fifo", &Inode{Mode: modeFIFO | 0o640}}, Entry{"socket", &Inode{Mode: modeSocket | 0o666}})
}

func attributesTree() *Inode {
	mode := func(bits uint32) *Inode {
		return with(file(int32(bits), 3), func(in *Inode) { in.Mode = modeRegular | bits })
	}
	at := func(sec int64, nsec uint32) *Inode {
		return with(file(9, 1), func(in *Inode) { in.Mtime, in.MtimeNsec = sec, nsec })
	}
	owned := func(uid, gid uint32) *Inode {
		return with(file(8, 1), func(in *Inode) { in.UID, in.GID = uid, gid })
	}
	return with(dir(
		Entry{"setuid", mode(0o4755)}, Entry{"setgid", mode(0o2755)}, Entry{"sticky", mode(0o1644)}, Entry{"none", mode(0)},
		Entry{"all", mode(0o7777)}, Entry{"epoch", at(0, 0)}, Entry{"before", at(-1, 999_999_999)}, Entry{"long-before", at(-1<<40, 1)},
		Entry{"after-2038", at(1<<31, 5)}, Entry{"after-2106", at(1<<32+7, 123_456_789)}, Entry{"far", at(1<<40, 0)},
		Entry{"uid16", owned(65535, 65536)}, Entry{"uid32", owned(100_000, 4_000_000_000)}, Entry{"uidmax", owned(math.MaxUint32-1, math.MaxUint32-1)},
		Entry{"tmp", with(dir(), func(in *Inode) { in.Mode = modeDir | 0o1777; in.MtimeNsec = 42 })},
		Entry{"link", with(symlink("x"), func(in *Inode) { in.UID, in.Mtime, in.MtimeNsec = 70_000, -5, 77 })},
	), func(in *Inode) {
		in.UID, in.GID, in.Mtime, in.MtimeNsec, in.Mode = 12, 70_001, 1_234_567_890, 987_654_321, modeDir|0o700
	})
}

func namesTree() *Inode {
	names := []string{"!", "+", "-", "-rf", ".-", ".hidden", "..a", "...", ". ", ".\x01", " ", "  ", "\n", "\t", "a b", "*", "\\", "\"", "'",
		"\x01", "\x7f", "\x80", "\xff\xfe", "ä", "漢字", strings.Repeat("x", 255), strings.Repeat("y", 254), strings.Repeat("\xff", 255),
		"A", "a", "aa", "a.", "a-", "con", "lost+found", ".wh.x", "%s%n"}
	root := dir()
	for i, name := range names {
		root.Entries = append(root.Entries, Entry{name, file(int32(i), int64(i))})
	}
	root.Entries = append(root.Entries, Entry{"same", dir(Entry{"same", dir(Entry{"same", file(77, 7)})})})
	return root
}

func linksTree() *Inode {
	shared, sharedLink, sharedFifo := file(1, 4096), symlink("../x"), &Inode{Mode: modeFIFO | 0o600}
	many := file(2, 3)
	root := dir(Entry{"z-first", shared}, Entry{"b", dir(Entry{"second", shared}, Entry{"link", sharedLink}, Entry{"fifo", sharedFifo})},
		Entry{"a", dir(Entry{"third", shared}, Entry{"also", shared}, Entry{"link", sharedLink})}, Entry{"fifo", sharedFifo})
	crowd := dir()
	for i := range 300 {
		crowd.Entries = append(crowd.Entries, Entry{fmt.Sprintf("name-%d", i), many}, Entry{fmt.Sprintf("dir-%d", i), dir()})
	}
	root.Entries = append(root.Entries, Entry{"crowd", crowd})
	return root
}

// acl returns a POSIX access list as Linux hands it out.
func acl(user uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct{ tag, perm, id uint32 }{{1, 6, math.MaxUint32}, {2, 4, user}, {4, 4, math.MaxUint32}, {16, 6, math.MaxUint32}, {32, 0, math.MaxUint32}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e.tag))
		b = binary.LittleEndian.AppendUint16(b, uint16(e.perm))
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// capability returns a file capability as Linux hands it out: CAP_NET_RAW,
// effective and permitted.
func capability() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	b = binary.LittleEndian.AppendUint32(b, 1<<13)
	return append(b, make([]byte, 12)...)
}

func xattrsTree() *Inode {
	set := func(in *Inode, xattrs ...Xattr) *Inode {
		return with(in, func(in *Inode) { in.Xattrs = xattrs })
	}
	long := func(n int) []byte { return []byte(strings.Repeat("0123456789abcdef", n/16+1)[:n]) }
	root := dir(
		Entry{"ping", set(file(1, 9), Xattr{"security.capability", capability()})},
		Entry{"user", set(file(2, 9), Xattr{"user.z", []byte("last")}, Xattr{"user.a", nil}, Xattr{"user.mime_type", []byte("text/plain")})},
		Entry{"acl", set(file(3, 9), Xattr{"system.posix_acl_access", acl(70_000)})},
		Entry{"acl-dir", set(dir(Entry{"x", file(4, 1)}), Xattr{"system.posix_acl_default", acl(1)}, Xattr{"system.posix_acl_access", acl(2)})},
		Entry{"trusted", set(file(5, 9), Xattr{"trusted.overlay.opaque", []byte("y")}, Xattr{"trusted.bin", []byte{0, 1, 0, 255, 0}})},
		Entry{"link", set(symlink("to"), Xattr{"trusted.on-a-link", []byte("v")})},
		Entry{"fifo", set(&Inode{Mode: modeFIFO | 0o600}, Xattr{"security.x", []byte("v")})},
		Entry{"name255", set(file(6, 9), Xattr{"user." + strings.Repeat("n", 250), []byte("v")})},
		Entry{"huge", set(file(7, 9), Xattr{"user.huge", long(65_535)}, Xattr{"user.huge2", long(65_000)}, Xattr{"user.tiny", long(1)})},
		Entry{"huge-dir", set(dir(Entry{"x", file(8, 1)}, Entry{"y", dir()}), Xattr{"user.large", long(5000)})},
		Entry{"huge-link", set(symlink(strings.Repeat("t", 500)), Xattr{"trusted.large", long(9000)})},
	)
	for n := 4000; n <= 4100; n++ { // around the end of a block
		root.Entries = append(root.Entries,
			Entry{fmt.Sprintf("edge-%d", n), set(file(int32(n), 1), Xattr{"user.x", long(n)})},
			Entry{fmt.Sprintf("edge-dir-%d", n), set(dir(Entry{"x", file(int32(n), 1)}), Xattr{"user.x", long(n - 60)})},
			Entry{fmt.Sprintf("edge-link-%d", n), set(symlink("target"), Xattr{"trusted.x", long(n - 40)})})
	}
	return set(root, Xattr{"user.root", long(3500)})
}

// sizesTree has files, links and directories of sizes around whole blocks and
// around what fits behind an inode.
func sizesTree() *Inode {
	root := dir()
	add := func(name string, in *Inode) { root.Entries = append(root.Entries, Entry{name, in}) }
	for i, n := range []int64{0, 1, 2, 4031, 4032, 4095, 4096, 4097, 8191, 8192, 8193, 100_000, 300_000} {
		add(fmt.Sprintf("file-%d", n), file(int32(i), n))
	}
	for _, n := range []int{1, 2, 31, 32, 33, 59, 60, 64, 1000, 2047, 2048, 3000, 4030, 4031, 4032, 4033, 4034, 4094, 4095} {
		add(fmt.Sprintf("link-%d", n), symlink(strings.Repeat("l", n)))
	}
	for _, n := range []int{28, 100, 2048, 4030, 4031, 4032, 4033, 4034, 4094, 4095, 4096, 4097, 4098, 4200, 8191, 8192, 8193, 12_288, 12_289} {
		add(fmt.Sprintf("dir-%d", n), dirOfBytes(n))
	}
	return root
}

// dirOfBytes returns a directory whose entries are of about n bytes, the last
// block filled exactly as n says.
func dirOfBytes(n int) *Inode {
	d := dir()
	left := n - int(dirBytes(with(dir(), func(in *Inode) { in.parent = in })))
	blockLeft := blockBytes - (n - left)
	for i := 0; left > 0; i++ {
		take := min(left, blockLeft, 120)
		if rest := min(left, blockLeft) - take; rest > 0 && rest < 40 {
			take -= 40 // leave room for one more entry
		}
		if take < direntBytes+6 {
			break
		}
		d.Entries = append(d.Entries, Entry{fmt.Sprintf("%06d%s", i, strings.Repeat("n", take-direntBytes-6)), file(int32(i), 1)})
		left -= take
		if blockLeft -= take; blockLeft == 0 {
			blockLeft = blockBytes
		}
	}
	return d
}

func largeTree(n int) *Inode {
	d := dir()
	shared := file(5, 10)
	for i := range n {
		in := shared
		if i%10 == 0 {
			in = with(file(int32(i), 0), func(in *Inode) { in.UID = uint32(i) })
		}
		d.Entries = append(d.Entries, Entry{fmt.Sprintf("entry-%d%s", i*7919%n, strings.Repeat("_", i%40)), in})
	}
	return dir(Entry{"large", d}, Entry{"after", file(6, 5000)})
}

func deepTree(depth int) *Inode {
	in := dir(Entry{"bottom", file(1, 5000)})
	for i := range depth {
		in = dir(Entry{fmt.Sprintf("level-%03d-of-the-deep", i), in}, Entry{"f", file(int32(i), int64(i))})
	}
	return in
}
