// SPDX-License-Identifier: Apache-2.0

package flatten_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/format/erofs"
	"thaw.dev/thaw/image/flatten"
	"thaw.dev/thaw/internal/testkit"
)

func scan(t testing.TB, data []byte) *flatten.Layer {
	t.Helper()
	l, err := flatten.Scan(t.Context(), bytes.NewReader(data), flatten.ScanOptions{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func merge(t testing.TB, tars ...[]byte) *flatten.Tree {
	t.Helper()
	var layers []*flatten.Layer
	for _, data := range tars {
		layers = append(layers, scan(t, data))
	}
	tree, err := flatten.Merge(t.Context(), layers, flatten.MergeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestFiles checks the table by which the bytes of files are found again.
func TestFiles(t *testing.T) {
	low := testkit.NewTar(t).File("a/x", "1").File("a.b", "22").File("empty", "").File("a-", "333").File("gone", "4").Bytes()
	high := testkit.NewTar(t).File("empty2", "").File("a/x", "55555").Link("a/0", "a/x").Whiteout("gone").Bytes()
	tree := merge(t, low, high)
	var got []string
	for i, f := range tree.Files {
		got = append(got, fmt.Sprintf("%s %d layer %d file %d", f.Path, f.Inode.Size, f.Layer, f.Ordinal))
		if int(f.Inode.Ref) != i {
			t.Errorf("%s: Ref is %d, want %d", f.Path, f.Inode.Ref, i)
		}
	}
	want := []string{"a- 3 layer 0 file 2", "a.b 2 layer 0 file 1", "a/0 5 layer 1 file 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if (tree.Count != flatten.Count{Files: 5, Dirs: 2, Links: 1}) {
		t.Errorf("count %+v", tree.Count)
	}
}

// TestOrdinals wants File called for every regular file with bytes, in order,
// whatever becomes of it.
func TestOrdinals(t *testing.T) {
	data := testkit.NewTar(t).File("./a", "one").File("b", "").File("a", "two").Dir("d", 0o755).File("d//c", "three").Bytes()
	var got []string
	_, err := flatten.Scan(t.Context(), bytes.NewReader(data), flatten.ScanOptions{File: func(f flatten.FileHeader, r io.Reader) error {
		content, err := io.ReadAll(io.LimitReader(r, 3)) // the rest is skipped
		got = append(got, fmt.Sprint(f.Ordinal, f.Name, f.Size, string(content)))
		return err
	}})
	if want := []string{"0a3one", "1a3two", "2d/c5thr"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
}

// TestGlobalHeaders are left out: git writes one at the front of its archives.
func TestGlobalHeaders(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "abc"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	buf.Write(testkit.NewTar(t).File("f", "f").Bytes())
	if l := scan(t, buf.Bytes()); l.Entries() != 1 {
		t.Errorf("%d entries", l.Entries())
	}
}

// TestHostsAttributes: what belongs to the host that a layer was made on is left
// out, in every form that overlayfs has.
func TestHostsAttributes(t *testing.T) {
	records := map[string]string{}
	for _, name := range []string{
		"trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "trusted.overlay.origin", "trusted.overlay.impure",
		"trusted.overlay.overlay.opaque", "user.overlay.opaque", "user.overlay.redirect", "security.selinux", "user.", "system.nfs4_acl", "com.apple.x",
		"trusted.overlayed", "user.overlays", "trusted.kept", "user.kept",
	} {
		records["SCHILY.xattr."+name] = "y"
	}
	for _, h := range []tar.Header{{Typeflag: tar.TypeDir, Name: "x/"}, {Typeflag: tar.TypeReg, Name: "x"}, {Typeflag: tar.TypeSymlink, Name: "x", Linkname: "y"}, {Typeflag: tar.TypeDir, Name: "./"}} {
		h.PAXRecords = records
		in := merge(t, testkit.NewTar(t).Add(h, "").Bytes()).Root
		if h.Name != "./" {
			in = in.Entries[0].Inode
		}
		var got []string
		for _, x := range in.Xattrs {
			got = append(got, x.Name)
		}
		if want := []string{"trusted.kept", "trusted.overlayed", "user.kept", "user.overlays"}; !slices.Equal(got, want) {
			t.Errorf("%c: %q, want %q", h.Typeflag, got, want)
		}
	}
}

// TestAUFS: what AUFS kept at the root of a layer is not part of the image.
func TestAUFS(t *testing.T) {
	low := testkit.NewTar(t).File("a", "a").Bytes()
	high := testkit.NewTar(t).File(".wh..wh.aufs", "").Dir(".wh..wh.orph", 0o700).Dir("./.wh..wh.plnk", 0o700).File("/.wh..wh.plnk/12.34", "x").File("b", "b").Bytes()
	var got []string
	for _, e := range merge(t, low, high).Root.Entries {
		got = append(got, e.Name)
	}
	if want := []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMountPoints(t *testing.T) {
	has := func(tree *flatten.Tree, path string) *erofs.Inode {
		in := tree.Root
		for name := range strings.SplitSeq(path, "/") {
			i := slices.IndexFunc(in.Entries, func(e erofs.Entry) bool { return e.Name == name })
			if i < 0 {
				return nil
			}
			in = in.Entries[i].Inode
		}
		return in
	}
	with := func(data []byte) *flatten.Tree {
		tree, err := flatten.Merge(t.Context(), []*flatten.Layer{scan(t, data)}, flatten.MergeOptions{MountPoints: true})
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	tree := with(testkit.NewTar(t).Bytes())
	for path, mode := range map[string]uint32{"dev": 0o40755, "proc": 0o40555, "sys": 0o40555, "tmp": 0o41777, "etc": 0o40755, "etc/hosts": 0o100644, "etc/resolv.conf": 0o100644} {
		if in := has(tree, path); in == nil || in.Mode != mode {
			t.Errorf("%s: %+v", path, in)
		}
	}
	// What is there is left alone; symbolic links are followed within the root,
	// and what is missing at their end is made.
	tree = with(testkit.NewTar(t).Dir("usr/etc", 0o755).Symlink("etc", "usr/etc").Symlink("usr/etc/resolv.conf", "../../run/systemd/resolv.conf").
		Symlink("usr/etc/hosts", "/../../../run/hosts").Symlink("tmp", "var/tmp").Dir("proc", 0o700).Bytes())
	if has(tree, "usr/etc/resolv.conf").Target == "" || has(tree, "tmp").Target == "" || has(tree, "proc").Mode != 0o40700 {
		t.Error("mount points that the image has were changed")
	}
	for path, mode := range map[string]uint32{"run/systemd/resolv.conf": 0o100644, "run/hosts": 0o100644, "var/tmp": 0o41777} {
		if in := has(tree, path); in == nil || in.Mode != mode {
			t.Errorf("%s, where a link leads: %+v", path, in)
		}
	}
	if tree = with(testkit.NewTar(t).Symlink("etc", "nowhere").Bytes()); has(tree, "nowhere/hosts") == nil {
		t.Error("a dangling /etc was not followed")
	}
	// A process comes through a missing name too, and up again.
	tree = with(testkit.NewTar(t).Dir("real", 0o755).Symlink("etc", "missing/way/../../real").Symlink("tmp", "x/../y").Bytes())
	for path, mode := range map[string]uint32{"missing/way": 0o40755, "real/hosts": 0o100644, "x": 0o40755, "y": 0o41777} {
		if in := has(tree, path); in == nil || in.Mode != mode {
			t.Errorf("%s, on the way of a link: %+v", path, in)
		}
	}
	tree = with(testkit.NewTar(t).Dir("etc", 0o755).File("file", "x").Symlink("etc/hosts", "../file/../real").Bytes())
	if has(tree, "real") != nil {
		t.Error("a file was made where no process gets to")
	}
	// A file whose link leads into what is mounted over belongs to the image.
	if tree = with(testkit.NewTar(t).Dir("etc", 0o755).Symlink("etc/hosts", "/tmp/hosts").Bytes()); has(tree, "tmp/hosts") != nil {
		t.Error("a file was made that /tmp hides")
	}
}

// TestBadMountPoints: an image in which a sandbox can't mount what it must is
// refused in words that name the path.
func TestBadMountPoints(t *testing.T) {
	for name, c := range map[string]struct {
		tar  *testkit.Tar
		path string
	}{
		"tmp is a file": {testkit.NewTar(t).File("tmp", "x"), "/tmp is a regular file"}, "tmp is a FIFO": {testkit.NewTar(t).Fifo("tmp"), "/tmp is a FIFO"},
		"tmp leads to a file": {testkit.NewTar(t).File("x", "x").Symlink("tmp", "x"), "/tmp is a regular file"},
		"tmp in circles":      {testkit.NewTar(t).Symlink("tmp", "tmp"), "/tmp is a symbolic link that leads in circles"},
		"tmp is the root":     {testkit.NewTar(t).Symlink("tmp", "/"), "/tmp is a symbolic link to the root"},
		"tmp is in dev":       {testkit.NewTar(t).Dir("dev/shm", 0o1777).Symlink("tmp", "dev/shm"), "/tmp is a symbolic link into"},
		"tmp below a file":    {testkit.NewTar(t).File("x", "x").Symlink("tmp", "x/y"), "/tmp is a name below"},
		"proc is a link":      {testkit.NewTar(t).Dir("p", 0o755).Symlink("proc", "p"), "/proc is a symbolic link"},
		"sys is a file":       {testkit.NewTar(t).File("sys", ""), "/sys is a regular file"},
		"dev is a link":       {testkit.NewTar(t).Symlink("dev", "nowhere"), "/dev is a symbolic link"},
		"etc is a file":       {testkit.NewTar(t).File("etc", ""), "/etc is a regular file"},
		"etc through a file":  {testkit.NewTar(t).File("f", "").Dir("real", 0o755).Symlink("etc", "f/../real"), "/etc is a symbolic link through"},
		"etc through tmp":     {testkit.NewTar(t).Dir("real", 0o755).Symlink("etc", "tmp/../real"), "/etc is a symbolic link through"},
		"tmp through proc":    {testkit.NewTar(t).Dir("real", 0o755).Symlink("tmp", "proc/1/../../real"), "/tmp is a symbolic link through"},
		"etc is in tmp":       {testkit.NewTar(t).Symlink("etc", "tmp/etc"), "/etc is a symbolic link into"},
		"hosts is a folder":   {testkit.NewTar(t).Dir("etc/hosts", 0o755), "/etc/hosts is a directory"},
		"resolv is a FIFO":    {testkit.NewTar(t).Fifo("etc/resolv.conf"), "/etc/resolv.conf is a FIFO"},
		"hosts in circles":    {testkit.NewTar(t).Symlink("etc/hosts", "h").Symlink("etc/h", "hosts"), "/etc/hosts is a symbolic link that leads in circles"},
	} {
		_, err := flatten.Merge(t.Context(), []*flatten.Layer{scan(t, c.tar.Bytes())}, flatten.MergeOptions{MountPoints: true})
		if thaw.KindOf(err) != thaw.Invalid || !strings.Contains(err.Error(), c.path) || !strings.Contains(err.Error(), "remove it from the image") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimits(t *testing.T) {
	b := testkit.NewTar(t)
	for i := range 101 {
		b.File(fmt.Sprint(i), "")
	}
	data := b.Bytes()
	_, err := flatten.Scan(t.Context(), bytes.NewReader(data), flatten.ScanOptions{MaxEntries: 100})
	if thaw.KindOf(err) != thaw.TooLarge {
		t.Errorf("scan: %v", err)
	}
	_, err = flatten.Merge(t.Context(), []*flatten.Layer{scan(t, data)}, flatten.MergeOptions{MaxEntries: 100})
	if thaw.KindOf(err) != thaw.TooLarge {
		t.Errorf("merge: %v", err)
	}
	// One entry makes two thousand directories.
	deep := testkit.NewTar(t).File(strings.Repeat("d/", 2000)+"f", "f").Bytes()
	_, err = flatten.Merge(t.Context(), []*flatten.Layer{scan(t, deep)}, flatten.MergeOptions{MaxEntries: 100})
	if thaw.KindOf(err) != thaw.TooLarge {
		t.Errorf("deep: %v", err)
	}
}

// TestDeepThroughLinks makes paths longer than any name says.
func TestDeepThroughLinks(t *testing.T) {
	step := strings.Repeat("d/", 900)
	data := testkit.NewTar(t).File(step+"f", "f").Symlink("l", step+".").File("l/"+step+"f", "f").
		Symlink("m", "l/"+step+".").File("m/"+step+"f", "f").Bytes()
	_, err := flatten.Merge(t.Context(), []*flatten.Layer{scan(t, data)}, flatten.MergeOptions{})
	if thaw.KindOf(err) != thaw.Invalid || !strings.Contains(err.Error(), "4095 bytes") {
		t.Errorf("got %v", err)
	}
}

// TestTangles has layers whose work grows with the square of their size if it
// is not bounded; they must be done, or refused, before long.
func TestTangles(t *testing.T) {
	whiteouts := testkit.NewTar(t)
	for i := range 30_000 {
		whiteouts.File(fmt.Sprintf("d/%d", i), "")
	}
	for range 30_000 {
		whiteouts.Opaque("d").Whiteout("d")
	}
	links := testkit.NewTar(t).Dir("x", 0o755)
	for i := range 250 {
		links.Symlink(fmt.Sprintf("l%d", i), strings.Repeat("x/../", 700)+fmt.Sprintf("l%d", i+1))
	}
	links.Symlink("l250", "x")
	for i := range 5000 {
		links.File(fmt.Sprintf("l0/%d", i), "")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := flatten.Merge(ctx, []*flatten.Layer{scan(t, whiteouts.Bytes())}, flatten.MergeOptions{}); err != nil {
		t.Errorf("whiteouts: %v", err)
	}
	if _, err := flatten.Merge(ctx, []*flatten.Layer{scan(t, links.Bytes())}, flatten.MergeOptions{}); thaw.KindOf(err) != thaw.Invalid {
		t.Errorf("links: %v", err)
	}
}

func TestShadow(t *testing.T) {
	var s flatten.Shadow
	if s.Hides("any") {
		t.Error("nothing hides something")
	}
	s.Add(scan(t, testkit.NewTar(t).File("f", "f").Dir("d", 0o755).Whiteout("w").Opaque("o/p").Symlink("l", "x").Bytes()))
	for name, want := range map[string]bool{"f": true, "f/below": true, "d": true, "d/below": false, "w": true, "w/a/b": true, "o": false, "o/p": false,
		"o/p/q": true, "o/q": false, "l/x": true, "other": false} {
		if got := s.Hides(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	s.Add(scan(t, testkit.NewTar(t).Add(tar.Header{Typeflag: tar.TypeReg, Name: ".wh..wh..opq"}, "").Bytes()))
	if !s.Hides("other") {
		t.Error("an opaque root does not hide")
	}
}

func TestCanceled(t *testing.T) {
	l := scan(t, testkit.NewTar(t).File("f", "f").Bytes())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := flatten.Merge(ctx, []*flatten.Layer{l}, flatten.MergeOptions{}); thaw.KindOf(err) != thaw.Canceled {
		t.Errorf("merge: %v", err)
	}
	if _, err := flatten.Scan(ctx, bytes.NewReader(nil), flatten.ScanOptions{}); thaw.KindOf(err) != thaw.Canceled {
		t.Errorf("scan: %v", err)
	}
}

// scriptTars makes layers of a script: a line for each entry, of a type, a name
// and perhaps ">" and a target or content; "---" begins the next layer. A fuzzer
// finds its way in that, which it does not past the checksums of a tar.
func scriptTars(script string) [][]byte {
	var tars [][]byte
	for layer := range strings.SplitSeq(script, "---\n") {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for line := range strings.SplitSeq(layer, "\n") {
			if line == "" {
				continue
			}
			name, target, _ := strings.Cut(line[1:], ">")
			h := tar.Header{Typeflag: line[0], Name: name, Linkname: target, Format: tar.FormatPAX}
			if h.Typeflag == tar.TypeReg {
				h.Linkname, h.Size = "", int64(len(target))
			}
			if w.WriteHeader(&h) == nil && h.Typeflag == tar.TypeReg {
				_, _ = io.WriteString(w, target)
			}
		}
		_ = w.Close()
		tars = append(tars, buf.Bytes())
	}
	return tars
}

// FuzzLayers flattens whatever it is given. What Merge accepts must be a tree
// that EROFS can hold, and its table of files must be that of the layers.
func FuzzLayers(f *testing.F) {
	f.Add("5d\n0d/f>f\n2l>d\n1h>l/f\n---\n0d/.wh..wh..opq\n0.wh.h\n0l/g>g\n---\n6p\n2d>../../x\n")
	f.Add("5./\n5a/b/c\n2a/l>/a/b\n0a/l/c/x>1\n---\n0a>2\n---\n5a\n1b>a/../a/x\n")
	f.Fuzz(func(t *testing.T, script string) {
		var layers []*flatten.Layer
		var files []map[int]int64
		for _, data := range scriptTars(script) {
			sizes := map[int]int64{}
			l, err := flatten.Scan(t.Context(), bytes.NewReader(data), flatten.ScanOptions{MaxEntries: 10_000, File: func(f flatten.FileHeader, _ io.Reader) error {
				sizes[f.Ordinal] = f.Size
				return nil
			}})
			if err != nil {
				return
			}
			layers, files = append(layers, l), append(files, sizes)
		}
		tree, err := flatten.Merge(t.Context(), layers, flatten.MergeOptions{MaxEntries: 10_000, MountPoints: true})
		if err != nil {
			if k := thaw.KindOf(err); k != thaw.Invalid && k != thaw.TooLarge {
				t.Fatalf("kind %v: %v", k, err)
			}
			return
		}
		for i, file := range tree.Files {
			if files[file.Layer][file.Ordinal] != file.Inode.Size || file.Inode.Size == 0 {
				t.Fatalf("%s: size %d, the layer says %d", file.Path, file.Inode.Size, files[file.Layer][file.Ordinal])
			}
			if i > 0 && tree.Files[i-1].Path >= file.Path {
				t.Fatalf("%q follows %q", file.Path, tree.Files[i-1].Path)
			}
		}
		if _, err := erofs.NewPlan(tree.Root); err != nil {
			t.Fatal(err)
		}
	})
}
