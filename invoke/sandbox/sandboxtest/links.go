// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"thaw.dev/thaw/invoke/sandbox"
)

// testLinks: symbolic links of an image at what is mounted are followed within
// its root, as container engines do.
func testLinks(t *testing.T, h *harness) {
	tree := t.TempDir()
	for _, dir := range []string{"proc", "sys", "dev", "var/tmp", "usr/etc", "run/systemd/resolve"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"tmp": "../../var/tmp", "etc": "/usr/etc", "usr/etc/resolv.conf": "../../run/systemd/resolve/stub-resolv.conf", "usr/etc/hosts": "/dev/hosts",
	} {
		if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{"probe": program(t, "thaw.dev/thaw/invoke/sandbox/sandboxtest/probe"), "run/systemd/resolve/stub-resolv.conf": []byte("image's")} {
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	root := mountTree(t, tree)
	linked := func(s *sandbox.Spec) { s.Root = root }
	v := h.look(t, linked, "/run/systemd/resolve/stub-resolv.conf", "/usr/etc/hosts")
	for _, want := range []string{"/var/tmp ", "/run/systemd/resolve/stub-resolv.conf "} {
		if !strings.Contains("\n"+strings.Join(v.Mounts, "\n"), "\n"+want) {
			t.Errorf("nothing is mounted at %s: %v", want, v.Mounts)
		}
	}
	if got := v.Paths["/run/systemd/resolve/stub-resolv.conf"]; strings.Contains(got, "image's") {
		t.Errorf("the resolver reads %s", got)
	}
	var wrote []string
	h.start(t, linked, "write", "/tmp/new").answer(t, &wrote)
	if fmt.Sprint(wrote) != "[ok ok written]" {
		t.Errorf("a file in /tmp: %v", wrote)
	}
}
