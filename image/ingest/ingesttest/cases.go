// SPDX-License-Identifier: Apache-2.0

package ingesttest

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/internal/testkit"
)

// Noise is n bytes that no cut makes zeros of.
func Noise(seed uint64, n int) string {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return string(b)
}

// Xattrs are the PAX records of extended attributes, given as name and value by turns.
func Xattrs(pairs ...string) map[string]string {
	records := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		records["SCHILY.xattr."+pairs[i]] = pairs[i+1]
	}
	return records
}

// cap_net_raw+ep and cap_sys_admin+i, as setcap writes them.
const (
	capNetRaw   = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	capSysAdmin = "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

func acl(entries ...uint16) string {
	b := []byte{2, 0, 0, 0}
	for i := 0; i < len(entries); i += 3 {
		b = append(b, byte(entries[i]), 0, byte(entries[i+1]), 0)
		id := uint32(entries[i+2])
		if id == 0xffff {
			id = 0xffffffff
		}
		b = append(b, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	return string(b)
}

// skeleton is a tar whose first entries are those that most images begin with.
func skeleton(t testing.TB) *testkit.Tar {
	return testkit.NewTar(t).Dir(".", 0o755).Dir("etc", 0o755).Dir("usr", 0o755).Dir("usr/bin", 0o755).Dir("tmp", 0o1777)
}

// Cases are images by what is odd about them, each a list of tars, bottom first.
func Cases(t testing.TB) map[string][][]byte {
	return map[string][][]byte{
		"attributes": {attributes(t)},
		"whiteouts": {
			skeleton(t).Dir("a", 0o755).File("a/one", "1").File("a/two", "2").Dir("a/sub", 0o700).File("a/sub/x", "x").
				Dir("b", 0o755).File("b/keep", "k").File("etc/gone", "g").Symlink("a/ln", "one").Dir("c", 0o755).File("c/f", "f").Bytes(),
			testkit.NewTar(t).Dir("a", 0o711).Whiteout("a/one").Whiteout("etc/gone").Whiteout("etc/never").Whiteout("none/such").
				File("b/new", "n").Whiteout("b/new").Whiteout("c").Dir("c", 0o750).File("c/g", "g").Whiteout("a/sub").Bytes(),
			testkit.NewTar(t).File("a/one", "again").Whiteout("a/ln").File("a/ln", "now a file").Bytes(),
		},
		"opaque": {
			skeleton(t).Dir("d", 0o755).File("d/low", "1").Dir("d/sub", 0o755).File("d/sub/low", "2").Dir("e", 0o755).File("e/low", "3").
				Dir("f", 0o755).File("f/low", "4").Dir("g", 0o755).Dir("g/h", 0o755).File("g/h/low", "5").File("g/low", "6").Bytes(),
			testkit.NewTar(t).
				Opaque("d").Dir("d", 0o700).File("d/high", "h"). // first
				Dir("e", 0o700).File("e/high", "h").Opaque("e"). // last
				File("f/high", "h").Opaque("f").File("f/low", "again").
				File("g/h/high", "h").Opaque("g").Opaque("g").Opaque("nowhere").Bytes(),
		},
		"opaque root": {
			skeleton(t).File("low", "l").File("etc/low", "l").Bytes(),
			testkit.NewTar(t).File("etc/high", "h").Add(tar.Header{Typeflag: tar.TypeReg, Name: ".wh..wh..opq"}, "").Bytes(),
		},
		"hard links": {
			skeleton(t).File("usr/bin/a", Noise(1, 5000)).Link("usr/bin/b", "usr/bin/a").Link("etc/c", "./usr/bin/b").
				Symlink("sym", "usr/bin/a").Link("symlink2", "sym").File("empty", "").Link("empty2", "empty").
				Add(tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600}, "").Link("fifo2", "fifo").Bytes(),
			testkit.NewTar(t).Link("usr/bin/d", "usr/bin/a").File("usr/bin/a", "replaced").Link("sym3", "symlink2").
				Whiteout("etc/c").Symlink("bin", "usr/bin").Link("e", "bin/d").Bytes(),
		},
		"links in names": {
			skeleton(t).Symlink("bin", "usr/bin").Symlink("abs", "/usr").Symlink("up", "../../../../etc").Symlink("usr/loop", "bin/../../usr/loop2").
				Symlink("usr/loop2", "/etc").Symlink("dangling", "var/made").Bytes(),
			testkit.NewTar(t).File("bin/tool", "t").File("abs/bin/tool2", "t").File("up/passwd", "p").File("usr/loop/deep", "d").
				File("dangling/x", "x").Whiteout("bin/nothing").Bytes(),
			testkit.NewTar(t).Whiteout("bin/tool").File("bin/tool3", "3").Dir("abs", 0o700).File("abs/own", "o").Bytes(),
		},
		"types change": {
			skeleton(t).Dir("d", 0o755).File("d/x", "x").File("f", "f").Symlink("s", "d").Bytes(),
			testkit.NewTar(t).File("d", "now a file").Dir("f", 0o755).File("f/y", "y").Dir("s", 0o755).File("s/z", "z").Bytes(),
			testkit.NewTar(t).Dir("d", 0o711).File("d/back", "b").File("f", "back").Symlink("s", "f").Bytes(),
		},
		"duplicates": {
			skeleton(t).File("etc/f", "first").File("etc/f", "second, longer").Dir("etc", 0o700).
				Add(tar.Header{Typeflag: tar.TypeDir, Name: "x/", Mode: 0o755, PAXRecords: Xattrs("user.a", "1")}, "").File("x/in", "1").
				Add(tar.Header{Typeflag: tar.TypeDir, Name: "x/", Mode: 0o500, Uid: 7, PAXRecords: Xattrs("user.b", "2")}, "").
				File("./usr//bin/../bin/tool", "t").Symlink("l", "1").Symlink("l", "2").Bytes(),
		},
		"long names":    {longNames(t, tar.FormatPAX), longNames(t, tar.FormatGNU)},
		"sizes":         {sizes(t)},
		"empty":         {testkit.NewTar(t).Bytes(), {}},
		"root":          {testkit.NewTar(t).Add(tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o1711, Uid: 5, Gid: 6, PAXRecords: Xattrs("user.root", "r")}, "").File("f", "").Bytes()},
		"global header": {testkit.NewTar(t).File("f", "1").Bytes()},
	}
}

func attributes(t testing.TB) []byte {
	b := skeleton(t)
	for i, mode := range []int64{0o4755, 0o2755, 0o1644, 0o7777, 0, 0o444, 0o100644} {
		b.Add(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("mode%d", i), Mode: mode, Uid: i * 1000, Gid: 1 << 20 * i}, "x")
	}
	b.Add(tar.Header{Typeflag: tar.TypeReg, Name: "owner", Mode: 0o644, Uid: 4294967294, Gid: 70000, Uname: "root", Gname: "wheel"}, "x")
	for i, when := range []time.Time{time.Unix(0, 0), time.Unix(1, 5), time.Unix(-86400, 0), time.Unix(1<<32+7, 999999999), time.Unix(1700000000, 123456789)} {
		b.Add(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("time%d", i), Mode: 0o644, ModTime: when, Format: tar.FormatPAX}, "x")
		b.Add(tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("timedir%d", i), Mode: 0o755, ModTime: when, Format: tar.FormatPAX}, "")
		b.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("timelink%d", i), Linkname: "x", ModTime: when, Format: tar.FormatPAX}, "")
		b.File(fmt.Sprintf("timedir%d/later", i), "x")
	}
	b.Add(tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
	b.Add(tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Gid: 6, Devmajor: 259, Devminor: 300}, "")
	b.Add(tar.Header{Typeflag: tar.TypeChar, Name: "far", Mode: 0o600, Devmajor: 4095, Devminor: 1<<20 - 1}, "")
	b.Add(tar.Header{Typeflag: tar.TypeChar, Name: "whiteoutlike", Mode: 0o600}, "")
	b.Add(tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o4640}, "")
	reg := func(name string, records map[string]string) {
		b.Add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, PAXRecords: records}, "x")
	}
	reg("ping", Xattrs("security.capability", capNetRaw))
	reg("admin", Xattrs("security.capability", capSysAdmin, "user.note", "ü\x00binary\xff", "trusted.t", "1"))
	reg("labelled", Xattrs("security.selinux", "system_u:object_r:bin_t:s0", "user.kept", ""))
	reg("foreign", Xattrs("com.apple.provenance", "x", "system.nfs4_acl", "x", "user.kept", "y"))
	reg("big", Xattrs("user.big", strings.Repeat("v", 3000)))
	reg("acl", Xattrs("system.posix_acl_access", acl(1, 7, 0xffff, 2, 5, 1000, 4, 4, 0xffff, 0x10, 5, 0xffff, 0x20, 1, 0xffff)))
	reg("minimalacl", Xattrs("system.posix_acl_access", acl(1, 6, 0xffff, 4, 4, 0xffff, 0x20, 0, 0xffff)))
	b.Add(tar.Header{Typeflag: tar.TypeDir, Name: "acldir", Mode: 0o755, PAXRecords: Xattrs("system.posix_acl_default", acl(1, 7, 0xffff, 4, 5, 0xffff, 0x20, 0, 0xffff))}, "")
	b.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: "trustedlink", Linkname: "/nowhere/" + strings.Repeat("l", 3000), PAXRecords: Xattrs("trusted.l", "1")}, "")
	return b.Bytes()
}

func longNames(t testing.TB, format tar.Format) []byte {
	long := strings.Repeat(strings.Repeat("d", 100)+"/", 20)
	b := skeleton(t)
	b.Add(tar.Header{Typeflag: tar.TypeReg, Name: long + fmt.Sprint("file", format), Mode: 0o600, Format: format}, "long")
	b.Add(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint("base", format) + strings.Repeat("n", 240), Mode: 0o600, Format: format}, "n")
	b.Add(tar.Header{Typeflag: tar.TypeLink, Name: fmt.Sprint("link", format), Linkname: long + fmt.Sprint("file", format), Format: format}, "")
	b.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprint("sym", format), Linkname: long, Format: format}, "")
	if format == tar.FormatPAX {
		b.File("ünïcödé\n\t\\", "u")
	}
	return b.Bytes()
}

// sizes has files around every boundary that the layout knows.
func sizes(t testing.TB) []byte {
	b := skeleton(t)
	for i, n := range []int{0, 1, 4095, 4096, 4097, 65536, 256<<10 - 1, 256 << 10, 256<<10 + 1, 512 << 10, 1<<20 + 4096, 1<<20 + 1} {
		b.File(fmt.Sprintf("usr/size%d", n), Noise(uint64(i), n))
		b.File(fmt.Sprintf("usr/zero%d", n), strings.Repeat("\x00", n))
	}
	for i := range 300 {
		b.File(fmt.Sprintf("usr/lib%d/a/b/c/%d/small%d", i%7, i%3, i), Noise(uint64(100+i), 10+i*97%20000))
	}
	return b.Bytes()
}
