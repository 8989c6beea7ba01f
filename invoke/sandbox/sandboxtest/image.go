// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/testkit"
	"thaw.dev/thaw/invoke/sandbox/tmpdisk"
)

// builds keeps what one test process builds, by package path: building takes
// seconds, and every test needs the same.
type builds struct {
	mu   sync.Mutex
	made map[string][]byte
}

var built = builds{made: map[string][]byte{}}

// program builds a static program from this module's sources.
func program(t testing.TB, pkg string) []byte {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if data := built.made[pkg]; data != nil {
		return data
	}
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	built.made[pkg] = data
	return data
}

// Init builds the init of package jail, for jail.Config.Init: a test then runs
// what is in the tree, whatever was built last.
func Init(t testing.TB) []byte { return program(t, "thaw.dev/thaw/invoke/sandbox/pid1/init") }

// Tmp opens a store of disks for the sandboxes' /tmp, which is closed when the
// test ends: after a launcher that the test opens next.
func Tmp(t testing.TB) *tmpdisk.Store {
	t.Helper()
	s, err := tmpdisk.Open(tmpdisk.Config{Dir: t.TempDir(), Ahead: 2, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(background(t)); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Root makes an image with the probe and files to try rights on, mounts it as
// EROFS from a file and returns the mount. It is unmounted when the test ends,
// and the test fails if something still holds it.
func Root(t testing.TB) string {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.RequireTool(t, "mkfs.erofs", "setcap")
	tree := t.TempDir()
	Plant(t, tree)
	return mountTree(t, tree)
}

func mountTree(t testing.TB, tree string) string {
	t.Helper()
	work := t.TempDir()
	image, mount := filepath.Join(work, "image"), filepath.Join(work, "mount")
	if out, err := exec.Command("mkfs.erofs", "-Enoinline_data", image, tree).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(image, mount, "erofs", unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Errorf("the root is still in use: %v", err)
			_ = unix.Unmount(mount, unix.MNT_DETACH)
		}
	})
	return mount
}

// Plant makes the tree of the image: the probe, and files that tell whether
// rights are kept.
func Plant(t testing.TB, tree string) {
	probe := program(t, "thaw.dev/thaw/invoke/sandbox/sandboxtest/probe")
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(tree, name) }
	must(os.Chmod(tree, 0o755))
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "etc", "bin", "work", "directory"} {
		must(os.Mkdir(at(dir), 0o755))
	}
	must(os.Mkdir(at("closed"), 0o700))
	must(os.Mkdir(at("writable"), 0o777))
	must(os.Chmod(at("writable"), 0o777))
	for _, f := range []struct {
		name    string
		content []byte
		mode    uint32
		owner   int
	}{
		{"probe", probe, 0o755, 0}, {"bin/on-path", probe, 0o755, 0}, {"setuid-probe", probe, 0o6755, 0}, {"capability-probe", probe, 0o755, 0},
		{"open", []byte("open"), 0o666, 0}, {"secret", []byte("secret"), 0o600, 0}, {"of-12345", []byte("x"), 0o644, 12345},
		{"of-993", []byte("own"), 0o600, 993}, {"not-executable", probe, 0o644, 0}, {"not-ours", probe, 0o700, 0}, {"no-format", []byte("text\n"), 0o755, 0},
		{"no-interpreter", []byte("#!/nowhere\n"), 0o755, 0}, {"etc/hosts", nil, 0o644, 0}, {"etc/resolv.conf", nil, 0o644, 0},
	} {
		must(os.WriteFile(at(f.name), f.content, 0o644))
		must(os.Chown(at(f.name), f.owner, f.owner))
		must(unix.Chmod(at(f.name), f.mode))
	}
	must(os.Symlink("/probe", at("link")))
	must(unix.Mknod(at("image-device"), unix.S_IFCHR|0o666, 0x103))
	must(os.Chmod(at("image-device"), 0o666))
	plantBroken(t, tree)
	if out, err := exec.Command("setcap", "cap_sys_admin,cap_dac_override=ep", at("capability-probe")).CombinedOutput(); err != nil {
		t.Fatalf("setcap: %v\n%s", err, out)
	}
}

// describe formats a value for a failure.
func describe(v any) string { return fmt.Sprintf("%+v", v) }
