// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"fmt"
	"strings"
	"testing"

	"thaw.dev/thaw"
	"thaw.dev/thaw/image/ingest"
	"thaw.dev/thaw/image/ingest/ingesttest"
	"thaw.dev/thaw/internal/testkit"
)

const (
	userLine  = "sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"
	groupLine = "sbx_user1051:x:990:\n"
)

// userCases are trees with /etc/passwd in every shape, and where the file that
// programs then read is and what it must hold.
func userCases(t *testing.T) map[string]struct {
	tar        *testkit.Tar
	path, want string
} {
	type c = struct {
		tar        *testkit.Tar
		path, want string
	}
	root := "root:x:0:0:root:/root:/bin/sh\n"
	huge := strings.Repeat("u:x:1:1::/:/bin/sh\n", 200_000)
	return map[string]c{
		"no /etc":          {testkit.NewTar(t).File("app", "x"), "etc/passwd", userLine},
		"no file":          {testkit.NewTar(t).Dir("etc", 0o755), "etc/passwd", userLine},
		"empty":            {testkit.NewTar(t).File("etc/passwd", ""), "etc/passwd", userLine},
		"others":           {testkit.NewTar(t).File("etc/passwd", root), "etc/passwd", userLine + root},
		"no final newline": {testkit.NewTar(t).File("etc/passwd", "a:x:1:1::/:"), "etc/passwd", userLine + "a:x:1:1::/:"},
		"other 993":        {testkit.NewTar(t).File("etc/passwd", root+"me:x:993:993::/:\n"), "etc/passwd", userLine + root + "me:x:993:993::/:\n"},
		"there already":    {testkit.NewTar(t).File("etc/passwd", userLine+root), "etc/passwd", userLine + root},
		"link":             {testkit.NewTar(t).File("usr/lib/passwd", root).Symlink("etc/passwd", "../usr/lib/passwd"), "usr/lib/passwd", userLine + root},
		"absolute link":    {testkit.NewTar(t).File("usr/lib/passwd", root).Symlink("etc/passwd", "/usr/lib/passwd"), "usr/lib/passwd", userLine + root},
		"dangling link":    {testkit.NewTar(t).Symlink("etc/passwd", "/run/users/passwd"), "run/users/passwd", userLine},
		"link to /tmp":     {testkit.NewTar(t).Symlink("etc/passwd", "/tmp/passwd"), "etc/passwd", userLine},
		"link to /dev":     {testkit.NewTar(t).Symlink("etc/passwd", "/dev/null"), "etc/passwd", userLine},
		"circle":           {testkit.NewTar(t).Symlink("etc/passwd", "passwd"), "etc/passwd", userLine},
		"/etc is a link":   {testkit.NewTar(t).File("usr/etc/passwd", root).Symlink("etc", "usr/etc"), "usr/etc/passwd", userLine + root},
		"hard link":        {testkit.NewTar(t).File("p", root).Link("etc/passwd", "p"), "etc/passwd", userLine + root},
		"huge":             {testkit.NewTar(t).File("etc/passwd", huge), "etc/passwd", userLine + huge},
	}
}

// TestUserHasAName: whatever an image's files say, the function's user and
// group are in them, first, and nothing of theirs is lost; with much memory
// and with none for the files that wait.
func TestUserHasAName(t *testing.T) {
	for name, c := range userCases(t) {
		for _, held := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, held %v", name, held), func(t *testing.T) {
				w := newWorld(t)
				o := w.options()
				if !held {
					o.HoldBytes, o.TempBytes = 1, 1
				}
				// What fills the hold stands in the layer above, which is read first.
				filler := testkit.NewTar(t)
				for i := range 12 {
					filler.File(fmt.Sprint("filler/", i), ingesttest.Noise(uint64(i), 250<<10))
				}
				r := w.mustRun(t, o, private(testkit.PlainLayer(c.tar.Bytes()), testkit.PlainLayer(filler.Bytes()))...)
				tree := w.mounted(t, r.Image)
				for path, want := range map[string]string{c.path: c.want, strings.Replace(c.path, "passwd", "group", 1): groupLine} {
					if path != c.path && !strings.HasSuffix(path, "etc/group") {
						path = "etc/group"
					}
					got := tree[path]
					if got.Content != ingesttest.ContentOf(want) || got.Mode&0o100444 != 0o100444 {
						t.Errorf("%s: %+v, want %.100q", path, got, want)
					}
				}
				if name == "hard link" && tree["p"].Content != ingesttest.ContentOf("root:x:0:0:root:/root:/bin/sh\n") {
					t.Errorf("the file's other name changed, too: %+v", tree["p"])
				}
			})
		}
	}
}

// TestUserAndGroupInOneFile: links that make one file of two or all of those
// that name users end in a file that holds each line.
func TestUserAndGroupInOneFile(t *testing.T) {
	root := "root:x:0:0:root:/root:/bin/sh\n"
	for want, tar := range map[string]*testkit.Tar{
		groupLine + userLine:                   testkit.NewTar(t).Symlink("etc/passwd", "group").Symlink("etc/group", "passwd"),
		groupLine + userLine + root:            testkit.NewTar(t).File("etc/passwd", root).Symlink("etc/group", "passwd"),
		userLine + "passwd: files db\n" + root: testkit.NewTar(t).File("etc/passwd", "passwd:db\n"+root).Symlink("etc/nsswitch.conf", "passwd"),
	} {
		w := newWorld(t)
		r := w.mustRun(t, w.options(), private(testkit.PlainLayer(tar.Bytes()))...)
		if got := w.mounted(t, r.Image)["etc/passwd"]; got.Content != ingesttest.ContentOf(want) {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}

// TestUserIsAskedOfFiles: an nsswitch.conf that looks for users elsewhere looks
// into the files first.
func TestUserIsAskedOfFiles(t *testing.T) {
	for had, want := range map[string]string{
		"passwd: files\ngroup: files systemd\n":                      "passwd: files\ngroup: files systemd\n",
		"# x\npasswd:\tldap [NOTFOUND=return]\nhosts: dns\ngroup:db": "# x\npasswd: files ldap [NOTFOUND=return]\nhosts: dns\ngroup: files db",
		"passwd: compat\ngroup:\nshadow: compat\n":                   "passwd: files compat\ngroup: files \nshadow: compat\n",
		"hosts: files dns\n":                                         "hosts: files dns\n",
	} {
		w := newWorld(t)
		r := w.mustRun(t, w.options(), private(testkit.PlainLayer(testkit.NewTar(t).File("etc/nsswitch.conf", had).Bytes()))...)
		if got := w.mounted(t, r.Image)["etc/nsswitch.conf"]; got.Content != ingesttest.ContentOf(want) {
			t.Errorf("of %q it made %+v, want %q", had, got, want)
		}
	}
}

// TestUserCantBeNamed: what no program could read users from is refused.
func TestUserCantBeNamed(t *testing.T) {
	for want, tar := range map[string]*testkit.Tar{
		"/etc/passwd is a directory":                testkit.NewTar(t).Dir("etc/passwd", 0o755),
		"/etc/group is a FIFO":                      testkit.NewTar(t).Fifo("etc/group"),
		"/etc/passwd of 9000000 bytes is too large": testkit.NewTar(t).File("etc/passwd", strings.Repeat("x", 9_000_000)),
	} {
		w := newWorld(t)
		_, err := ingest.Run(t.Context(), private(testkit.PlainLayer(tar.Bytes())), "sha256:feed", w.options())
		if thaw.KindOf(err) != thaw.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
