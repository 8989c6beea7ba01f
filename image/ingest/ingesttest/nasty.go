// SPDX-License-Identifier: Apache-2.0

package ingesttest

import (
	"archive/tar"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/internal/testkit"
)

// Nasty are images that tools and people have really made, or could, by what is
// odd about them, each a list of tars, bottom first. All of them are valid, and
// umoci unpacks them as containerd and docker do.
func Nasty(t testing.TB) map[string][][]byte {
	all := map[string][][]byte{}
	for _, family := range []map[string][][]byte{nastyNames(t), nastyLinks(t), nastyReplacements(t), nastyWhiteouts(t), nastyAttributes(t), nastyBytes(t)} {
		maps.Copy(all, family)
	}
	return all
}

func layer(t testing.TB) *testkit.Tar { return testkit.NewTar(t) }

func reg(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}
}

func nastyNames(t testing.TB) map[string][][]byte {
	deep := strings.Repeat("d/", 300)
	return map[string][][]byte{
		"absolute file":           {layer(t).File("/ko-app/app", "a").Bytes()},
		"absolute root":           {layer(t).Add(tar.Header{Typeflag: tar.TypeDir, Name: "/", Mode: 0o750, Uid: 3}, "").File("/f", "f").Bytes()},
		"absolute link":           {layer(t).File("/d/f", "f").Link("/l", "/d/f").Link("m", "/d/f").Link("/n", "d/f").Bytes()},
		"absolute link, symlink":  {layer(t).Symlink("/s", "/t").File("/t/f", "f").Link("/l", "/s/f").Bytes()},
		"absolute whiteout":       {layer(t).File("/a/f", "f").File("a/g", "g").Bytes(), layer(t).Whiteout("/a/f").Bytes()},
		"absolute opaque":         {layer(t).File("/a/f", "f").Bytes(), layer(t).File("/a/h", "h").Opaque("/a").Bytes()},
		"absolute and not":        {layer(t).File("/f", "1").File("f", "2").File("//f", "3").Bytes()},
		"many slashes":            {layer(t).File("//a///b////c", "c").Dir("a//b//", 0o700).Bytes()},
		"dots":                    {layer(t).File("./././a/./b", "b").Dir("./a/.", 0o711).Bytes()},
		"up and down":             {layer(t).File("a/../b", "b").File("x/y/../../z", "z").Dir("p/q/..", 0o700).Bytes()},
		"up over a symlink":       {layer(t).Symlink("s", "d/e").File("s/../f", "f").Bytes()},
		"link target up and down": {layer(t).File("b", "b").Link("l", "a/../b").Link("./m", "././b").Bytes()},
		"dots in names":           {layer(t).File("..a", "1").File("...", "2").File("a..b/..c", "3").File("a.", "4").Bytes()},
		"odd characters":          {layer(t).File("a\\b", "1").File(" ", "2").File("-rf", "3").File("a\nb\tc", "4").File("ä/ö/日本", "5").File("*?[x]", "6").File("\x01\x7f", "7").Bytes()},
		"not UTF-8":               {layer(t).Add(tar.Header{Typeflag: tar.TypeReg, Name: "\xff\xfe", Mode: 0o600, Format: tar.FormatGNU}, "x").Bytes()},
		"upper and lower case":    {layer(t).File("readme", "1").File("README", "2").File("ReadMe/x", "3").Bytes()},
		"longest element":         {layer(t).File(strings.Repeat("n", 255), "n").Dir(strings.Repeat("m", 255), 0o700).File(strings.Repeat("ä", 127), "a").Bytes()},
		"deep":                    {layer(t).File(deep+"f", "f").Bytes(), layer(t).Whiteout(strings.TrimSuffix(strings.Repeat("d/", 200), "/")).Bytes()},
		"no parents":              {layer(t).File("a/b/c/d", "d").Symlink("e/f/g", "h").Bytes()},
		"parents last":            {layer(t).File("a/b/c", "c").Dir("a/b", 0o500).Dir("a", 0o111).Dir(".", 0o755).Bytes()},
	}
}

func nastyLinks(t testing.TB) map[string][][]byte {
	device := tar.Header{Typeflag: tar.TypeChar, Name: "device", Mode: 0o600, Devmajor: 1, Devminor: 3}
	return map[string][][]byte{
		"files below a symlink":            {layer(t).Dir("real", 0o755).Symlink("s", "real").File("s/f", "f").Dir("s/d", 0o700).Bytes()},
		"files below a lower symlink":      {layer(t).Dir("usr/lib", 0o755).Symlink("lib", "usr/lib").Bytes(), layer(t).File("lib/f", "f").File("lib/x/y", "y").Bytes()},
		"absolute symlink":                 {layer(t).Symlink("s", "/var/x").File("s/f", "f").Bytes()},
		"symlink out":                      {layer(t).Symlink("s", "../../../../etc").File("s/f", "f").Symlink("t", "/../../x").File("t/f", "f").Bytes()},
		"symlink chain":                    {layer(t).Symlink("a", "b").Symlink("b", "/c").Symlink("c", "./d/").Dir("d", 0o755).File("a/f", "f").Bytes()},
		"dangling symlink as a folder":     {layer(t).Symlink("s", "made/here").File("s/f", "f").Bytes()},
		"symlink and its folder by turns":  {layer(t).Symlink("s", "x").File("x/1", "1").File("s/2", "2").File("x/3", "3").Bytes()},
		"symlink in the middle":            {layer(t).Symlink("a/s", "../b").File("a/s/c/f", "f").Link("l", "a/s/c/f").Bytes()},
		"symlink to itself":                {layer(t).Symlink("s", "s").Symlink("p", "q").Symlink("q", "p").Bytes()},
		"symlink to the root":              {layer(t).Symlink("s", "/").File("s/f", "f").Symlink("d", ".").File("d/g", "g").Bytes()},
		"odd symlink targets":              {layer(t).Symlink("a", "b/").Symlink("c", "//d//e").Symlink("e", "..").Symlink("f", " ").Symlink("g", "\n").Bytes()},
		"long symlink target":              {layer(t).Symlink("s", strings.Repeat("t/", 2000)+"end").Bytes()},
		"hard link to a symlink":           {layer(t).File("f", "f").Symlink("s", "f").Link("l", "s").Bytes(), layer(t).Link("m", "l").Bytes()},
		"hard link to a dangling symlink":  {layer(t).Symlink("s", "nowhere").Link("l", "s").Bytes()},
		"hard link to a device":            {layer(t).Add(device, "").Link("l", "device").Add(tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}, "").Link("m", "pipe").Bytes()},
		"hard link through a symlink":      {layer(t).File("d/f", "f").Symlink("s", "d").Link("l", "s/f").Link("s/m", "s/f").Bytes()},
		"hard link to a lower layer":       {layer(t).File("f", "f").Bytes(), layer(t).Link("l", "f").Bytes(), layer(t).Whiteout("f").Link("m", "l").Bytes()},
		"hard link before a replacement":   {layer(t).File("f", "old").Link("l", "f").File("f", "new").Link("m", "f").Bytes()},
		"hard link over its target's name": {layer(t).File("f", "f").File("l", "other").Link("l", "f").Bytes(), layer(t).Link("f", "l").Bytes()},
		"hard link over a folder":          {layer(t).File("f", "f").File("d/x", "x").Link("d", "f").Bytes()},
		"hard links of an empty file":      {layer(t).File("e", "").Link("e2", "e").Link("d/e3", "e2").Bytes()},
		"hard link with a mode":            {layer(t).File("f", "f").Add(tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "f", Mode: 0o777, Uid: 9, ModTime: time.Unix(5, 0)}, "").Bytes()},
	}
}

func nastyReplacements(t testing.TB) map[string][][]byte {
	return map[string][][]byte{
		"duplicate files":                {layer(t).File("f", "one").File("f", "two and more").File("./f", "3").Bytes()},
		"duplicate folders":              {layer(t).Dir("d", 0o700).File("d/f", "f").Dir("d", 0o755).Dir("d", 0o711).Bytes()},
		"duplicate symlinks":             {layer(t).Symlink("s", "1").Symlink("s", "2").File("1/f", "f").Bytes()},
		"file, folder, file":             {layer(t).File("x", "1").Dir("x", 0o755).File("x/y", "y").File("x", "3").Bytes()},
		"file, folder, file by layers":   {layer(t).File("x", "1").Bytes(), layer(t).Dir("x", 0o755).File("x/y", "y").Bytes(), layer(t).File("x", "3").Bytes()},
		"folder, file, folder by layers": {layer(t).File("x/low", "1").Bytes(), layer(t).File("x", "2").Bytes(), layer(t).Dir("x", 0o700).File("x/high", "3").Bytes()},
		"folder over a symlink":          {layer(t).File("real/f", "f").Symlink("s", "real").Bytes(), layer(t).Dir("s", 0o700).File("s/g", "g").Bytes()},
		"symlink over a folder":          {layer(t).File("d/f", "f").File("e/g", "g").Bytes(), layer(t).Symlink("d", "e").File("d/h", "h").Bytes()},
		"symlink over a file and back":   {layer(t).File("f", "f").Bytes(), layer(t).Symlink("f", "g").File("g", "g").Bytes(), layer(t).File("f", "again").Bytes()},
		"device over a file":             {layer(t).File("f", "f").Bytes(), layer(t).Add(tar.Header{Typeflag: tar.TypeBlock, Name: "f", Mode: 0o640, Devmajor: 8, Devminor: 1}, "").Bytes()},
		"file over a device":             {layer(t).Add(tar.Header{Typeflag: tar.TypeFifo, Name: "f", Mode: 0o640}, "").Bytes(), layer(t).File("f", "f").Bytes()},
		"folder keeps what it has":       {layer(t).File("d/f", "f").Dir("d", 0o755).Bytes(), layer(t).Add(tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o500, Uid: 4, Gid: 5, PAXRecords: Xattrs("user.n", "n")}, "").Bytes()},
		"parent replaced while in use":   {layer(t).Symlink("s", "a").File("s/1", "1").Symlink("s", "b").File("s/2", "2").Bytes()},
	}
}

func nastyWhiteouts(t testing.TB) map[string][][]byte {
	low := func() []byte {
		return layer(t).File("d/a", "a").File("d/b", "b").File("d/e/f", "f").File("top", "t").Symlink("s", "d").Link("l", "top").Bytes()
	}
	return map[string][][]byte{
		"whiteout of nothing":              {low(), layer(t).Whiteout("never").Whiteout("d/never").Whiteout("no/folder/here").Bytes()},
		"whiteout in the lowest layer":     {layer(t).Whiteout("x").Opaque("y").File("y/f", "f").Bytes()},
		"whiteout before the same name":    {low(), layer(t).Whiteout("top").File("top", "new").Whiteout("d").File("d/new", "n").Bytes()},
		"whiteout after the same name":     {low(), layer(t).File("top", "new").Whiteout("top").File("d/new", "n").Whiteout("d").Bytes()},
		"whiteout twice":                   {low(), layer(t).Whiteout("top").Whiteout("top").Bytes(), layer(t).Whiteout("top").Bytes()},
		"whiteout below a symlink":         {low(), layer(t).Whiteout("s/a").Bytes()},
		"whiteout of a symlink":            {low(), layer(t).Whiteout("s").Bytes()},
		"whiteout of one hard link":        {low(), layer(t).Whiteout("top").Bytes()},
		"whiteout of a folder":             {low(), layer(t).Whiteout("d").Bytes(), layer(t).Dir("d", 0o700).Bytes()},
		"whiteout with content":            {low(), layer(t).File("d/.wh.a", "this is not read").Bytes()},
		"whiteout that is a hard link":     {low(), layer(t).File("x", "x").Link("d/.wh.a", "x").Bytes()},
		"whiteout that is a symlink":       {low(), layer(t).Symlink("d/.wh.a", "b").Bytes()},
		"opaque after siblings":            {low(), layer(t).File("d/new", "n").File("d/e/g", "g").Opaque("d").Bytes()},
		"opaque before siblings":           {low(), layer(t).Opaque("d").File("d/new", "n").File("d/e/g", "g").Bytes()},
		"opaque between siblings":          {low(), layer(t).File("d/new", "n").Opaque("d").File("d/a", "again").Bytes()},
		"opaque of nothing":                {low(), layer(t).Opaque("none").Bytes()},
		"opaque below a symlink":           {low(), layer(t).Opaque("s").File("d/new", "n").Bytes()},
		"opaque, then a whiteout":          {low(), layer(t).Opaque("d").Whiteout("d/a").Whiteout("d").Bytes(), layer(t).File("d/x", "x").Bytes()},
		"opaque in two layers":             {low(), layer(t).Opaque("d").File("d/1", "1").Bytes(), layer(t).Opaque("d").File("d/2", "2").Bytes()},
		"device like an overlay whiteout":  {low(), layer(t).Add(tar.Header{Typeflag: tar.TypeChar, Name: "d/a"}, "").Bytes()},
		"deleted and back three times":     {low(), layer(t).Whiteout("d").Bytes(), layer(t).File("d/a", "2").Bytes(), layer(t).Whiteout("d").File("d/b", "3").Bytes()},
		"file below what is deleted":       {low(), layer(t).Whiteout("d/e").File("d/e/new/x", "x").Bytes()},
		"whiteout of what links go to":     {low(), layer(t).Link("m", "top").Whiteout("top").Whiteout("l").Bytes()},
		"whiteout of a folder by its file": {low(), layer(t).Whiteout("d/e/f").Whiteout("d/a").Whiteout("d/b").Bytes()},
	}
}

func nastyAttributes(t testing.TB) map[string][][]byte {
	at := func(name string, when time.Time) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, ModTime: when, Format: tar.FormatPAX}
	}
	with := func(h tar.Header, records map[string]string) tar.Header {
		h.PAXRecords = records
		return h
	}
	modes := layer(t)
	for _, mode := range []int64{0, 0o1, 0o7777, 0o4711, 0o2000, 0o1000, 0o100755, 0o40755, 0o777777} {
		modes.Add(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("f%o", mode), Mode: mode}, "x")
		modes.Add(tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("d%o", mode), Mode: mode}, "")
	}
	binary := ""
	for i := range 256 {
		binary += string([]byte{byte(i)})
	}
	return map[string][][]byte{
		"modes": {modes.Bytes()},
		"times": {layer(t).Add(at("before", time.Unix(-1, 0)), "").Add(at("long before", time.Unix(-1<<31, 0)), "").Add(at("fraction before", time.Unix(-2, 999_999_999)), "").
			Add(at("zero", time.Unix(0, 1)), "").Add(at("after 2038", time.Unix(1<<31, 0)), "").Add(at("after 2106", time.Unix(1<<32+1, 0)), "").Bytes()},
		"owners": {layer(t).Add(tar.Header{Typeflag: tar.TypeReg, Name: "f", Uid: 1 << 31, Gid: 1<<32 - 2}, "").Add(tar.Header{Typeflag: tar.TypeDir, Name: "d", Uid: 65534, Gid: 1 << 21}, "").
			Add(tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "f", Uid: 1000, Gid: 1001}, "").Bytes()},
		"names of owners": {layer(t).Add(tar.Header{Typeflag: tar.TypeReg, Name: "f", Uid: 7, Uname: "root", Gid: 8, Gname: "wheel"}, "").Bytes()},
		"binary attribute": {layer(t).Add(with(reg("f"), Xattrs("user.binary", binary, "user.zero", "\x00", "user.line", "a\nb=c\n")), "x").
			Add(with(tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o700}, Xattrs("user.binary", binary)), "").Bytes()},
		"odd attribute names": {layer(t).Add(with(reg("f"), Xattrs("user.ä", "1", "user.a b", "2", "user..", "3", "user."+strings.Repeat("n", 250), "4", "trusted.x", "5")), "x").Bytes()},
		"attributes replaced": {layer(t).Add(with(reg("f"), Xattrs("user.a", "1", "user.b", "2")), "x").Bytes(), layer(t).Add(with(reg("f"), Xattrs("user.a", "3")), "y").Bytes()},
		"attributes of specials": {layer(t).Add(with(tar.Header{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o600}, Xattrs("trusted.t", "1")), "").
			Add(with(tar.Header{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "x"}, Xattrs("trusted.t", "1")), "").Bytes()},
		"capabilities":           {layer(t).Add(with(reg("f"), Xattrs("security.capability", capNetRaw)), "x").Link("l", "f").Bytes()},
		"libarchive's form":      {layer(t).Add(with(reg("f"), map[string]string{"LIBARCHIVE.xattr.user.a": "eA", "LIBARCHIVE.creationtime": "1"}), "x").Bytes()},
		"records of other tools": {layer(t).Add(with(reg("f"), map[string]string{"MSWINDOWS.rawsd": "x", "SCHILY.fflags": "nodump", "SUN.holesdata": " 0 1", "comment": "c", "RHT.security.selinux": "u"}), "x").Bytes()},
		"group of a folder":      {layer(t).Add(tar.Header{Typeflag: tar.TypeDir, Name: "g", Mode: 0o2755, Gid: 50}, "").File("g/f", "f").File("g/made/f", "f").Bytes()},
		"folder that is closed":  {layer(t).Dir("d", 0).File("d/f", "f").Bytes(), layer(t).File("d/g", "g").Whiteout("d/f").Bytes()},
		"device numbers": {layer(t).Add(tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 4095, Devminor: 1<<20 - 1}, "").Add(tar.Header{Typeflag: tar.TypeBlock, Name: "b", Devmajor: 256, Devminor: 256}, "").
			Add(tar.Header{Typeflag: tar.TypeFifo, Name: "p", Devmajor: 1, Devminor: 1}, "").Bytes()},
	}
}
