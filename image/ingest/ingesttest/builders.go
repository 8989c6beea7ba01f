// SPDX-License-Identifier: Apache-2.0

package ingesttest

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw/internal/testkit"
)

// Builders are images as tools beside docker lay them out, each a list of tars,
// bottom first: the order of entries, the form of names and the number of
// layers are theirs, the contents are not.
func Builders(t testing.TB) map[string][][]byte {
	return map[string][][]byte{
		"ko": ko(t), "jib": jib(t), "apko": apko(t), "nix": nix(t), "bazel": bazel(t), "buildpacks": buildpacks(t), "127 layers": manyLayers(t),
	}
}

// ko writes absolute names, a folder for its data, and a base below.
func ko(t testing.TB) [][]byte {
	epoch := time.Unix(0, 0)
	entry := func(b *testkit.Tar, kind byte, name, content string) {
		b.Add(tar.Header{Typeflag: kind, Name: name, Mode: 0o555, ModTime: epoch, Format: tar.FormatPAX}, content)
	}
	data, app := testkit.NewTar(t), testkit.NewTar(t)
	entry(data, tar.TypeDir, "/var/run/ko", "")
	entry(data, tar.TypeReg, "/var/run/ko/kodata.txt", "data")
	entry(app, tar.TypeDir, "/ko-app", "")
	entry(app, tar.TypeReg, "/ko-app/server", Noise(1, 300_000))
	return [][]byte{skeleton(t).File("etc/passwd", "root:x:0:0::/:/sbin/nologin\n").Bytes(), data.Bytes(), app.Bytes()}
}

// jib has a layer for each kind of content, whose folders come with every one
// of them, at a second after 1970.
func jib(t testing.TB) [][]byte {
	layers := [][]byte{skeleton(t).File("usr/bin/java", "java").Bytes()}
	for i, dir := range []string{"app/libs", "app/libs", "app/resources/META-INF", "app/classes/com/example", "app"} {
		b := testkit.NewTar(t)
		path := ""
		for part := range strings.SplitSeq(dir, "/") {
			path += part + "/"
			b.Add(tar.Header{Typeflag: tar.TypeDir, Name: path, Mode: 0o755, ModTime: time.Unix(1, 0)}, "")
		}
		b.Add(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%sfile%d", path, i), Mode: 0o644, ModTime: time.Unix(1, 0)}, Noise(uint64(i), 5000))
		layers = append(layers, b.Bytes())
	}
	return layers
}

// apko makes one layer of all packages: the links of busybox, hard and
// symbolic, a merged usr and attributes in its database of packages.
func apko(t testing.TB) [][]byte {
	b := testkit.NewTar(t)
	for _, dir := range []string{"etc", "usr", "usr/bin", "usr/lib", "usr/lib/apk", "usr/lib/apk/db", "var", "tmp"} {
		b.Dir(dir, 0o755)
	}
	b.Symlink("bin", "usr/bin").Symlink("lib", "usr/lib").Symlink("lib64", "lib").Symlink("sbin", "usr/bin")
	b.Add(tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/busybox", Mode: 0o755, PAXRecords: map[string]string{"APK-TOOLS.checksum.SHA1": "00"}}, Noise(2, 20_000))
	for i := range 200 {
		b.Symlink(fmt.Sprintf("usr/bin/applet%d", i), "/usr/bin/busybox")
	}
	b.Link("usr/bin/sh", "usr/bin/busybox").File("usr/lib/apk/db/installed", "P:busybox\n").File("lib/late.so", "through the link")
	return [][]byte{b.Bytes()}
}

// nix has a store path in each of many layers, read-only and of one second after
// 1970, whose parents come with none of them, and links to them at the end.
func nix(t testing.TB) [][]byte {
	var layers [][]byte
	for i := range 99 {
		b := testkit.NewTar(t)
		path := fmt.Sprintf("./nix/store/%032d-package-%d", i, i)
		if i%2 == 0 {
			b.Add(tar.Header{Typeflag: tar.TypeDir, Name: "./nix/", Mode: 0o755, ModTime: time.Unix(1, 0)}, "").
				Add(tar.Header{Typeflag: tar.TypeDir, Name: "./nix/store/", Mode: 0o755, ModTime: time.Unix(1, 0)}, "")
		}
		b.Add(tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: 0o555, ModTime: time.Unix(1, 0)}, "").
			Add(tar.Header{Typeflag: tar.TypeDir, Name: path + "/bin/", Mode: 0o555, ModTime: time.Unix(1, 0)}, "").
			Add(tar.Header{Typeflag: tar.TypeReg, Name: path + "/bin/tool", Mode: 0o555, ModTime: time.Unix(1, 0)}, fmt.Sprintf("tool %d of %s", i, path)).
			Add(tar.Header{Typeflag: tar.TypeSymlink, Name: path + "/lib", Linkname: fmt.Sprintf("/nix/store/%032d-package-%d/bin", i/2, i/2), ModTime: time.Unix(1, 0)}, "")
		layers = append(layers, b.Bytes())
	}
	return append(layers, testkit.NewTar(t).Symlink("./bin", fmt.Sprintf("/nix/store/%032d-package-%d/bin", 7, 7)).Dir("./tmp", 0o1777).Bytes())
}

// bazel merges packages of Debian: "./" at each name, files before their
// folders, folders twice.
func bazel(t testing.TB) [][]byte {
	return [][]byte{
		testkit.NewTar(t).File("./usr/lib/os-release", "ID=debian\n").Dir("./usr", 0o755).Dir("./usr/lib", 0o755).Symlink("./etc/os-release", "../usr/lib/os-release").Bytes(),
		testkit.NewTar(t).Dir(".", 0o755).Dir("./usr", 0o755).Dir("./usr", 0o755).File("./var/lib/dpkg/status.d/base", "Package: base\n").File("./app.runfiles/MANIFEST", "m").
			Symlink("./app.runfiles/repo/f", "../../usr/lib/os-release").Bytes(),
		{}, // an empty layer is a tar without a byte
	}
}

// buildpacks write files of 1980 for a user of their own, and slices of layers
// of which some are empty.
func buildpacks(t testing.TB) [][]byte {
	when := time.Date(1980, 1, 1, 0, 0, 1, 0, time.UTC)
	own := func(b *testkit.Tar, kind byte, name, content string) {
		b.Add(tar.Header{Typeflag: kind, Name: name, Mode: 0o775, Uid: 1001, Gid: 1000, ModTime: when}, content)
	}
	app, empty, launch := testkit.NewTar(t), testkit.NewTar(t), testkit.NewTar(t)
	own(app, tar.TypeDir, "/workspace", "")
	own(app, tar.TypeReg, "/workspace/app.js", "app")
	own(launch, tar.TypeDir, "/cnb/process", "")
	launch.Add(tar.Header{Typeflag: tar.TypeSymlink, Name: "/cnb/process/web", Linkname: "/cnb/lifecycle/launcher", ModTime: when}, "")
	return [][]byte{skeleton(t).Bytes(), app.Bytes(), empty.Bytes(), empty.Bytes(), launch.Bytes()}
}

// manyLayers is as many as an image may have, each of which changes a file of
// the one below, deletes another's, and adds its own.
func manyLayers(t testing.TB) [][]byte {
	layers := [][]byte{skeleton(t).Bytes()}
	for i := 1; i < 127; i++ {
		b := testkit.NewTar(t).File("etc/changed", fmt.Sprint("version ", i)).File(fmt.Sprintf("usr/l%d/own", i), fmt.Sprint(i))
		if i%3 == 0 {
			b.Whiteout(fmt.Sprintf("usr/l%d", i-1))
		}
		if i%5 == 0 {
			b.Link(fmt.Sprintf("usr/link%d", i), fmt.Sprintf("usr/l%d/own", i/3*3))
		}
		layers = append(layers, b.Bytes())
	}
	return layers
}
