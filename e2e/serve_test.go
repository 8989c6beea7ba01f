// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"thaw.dev/thaw/internal/livetest"
	"thaw.dev/thaw/internal/testkit"
)

// TestServeRefusals: a server that can't be started says so in one line that
// names the remedy, and leaves nothing behind.
func TestServeRefusals(t *testing.T) {
	w := newWorld(t, "--region", "eu-test-1")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().String()
	root, err := livetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	// A copy, for another user may not reach the project.
	binary := filepath.Join(t.TempDir(), "thaw")
	if out, err := exec.Command("sh", "-c", "cp "+root+"/bin/thaw "+binary+" && chmod 755 "+binary+" && chmod 755 $(dirname $(dirname "+binary+")) $(dirname "+binary+")").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, try := range []struct {
		what, before, flags string
		data                string // "" is one that is not there yet
		status              int
		says                string
	}{
		{"not root", "setpriv --reuid 65534 --clear-groups", "", "", 1, "try sudo"},
		{"an old kernel", "setarch x86_64 --uname-2.6", "", "", 1, "needs 6.12 or newer"},
		{"no FUSE", "unshare -m sh -c 'mount --bind /dev/null /dev/fuse && exec \"$@\"' --", "", "", 1, "no FUSE device"},
		{"no control groups", "unshare -m sh -c 'umount -R /sys/fs/cgroup && exec \"$@\"' --", "", "", 1, "no control groups"},
		{"a user namespace", "unshare -Ur", "", "", 1, "root of a user namespace"},
		{"a container's root", "setpriv --bounding-set -sys_admin", "", "", 1, "CAP_SYS_ADMIN"},
		{"a busy port", "", "--listen " + taken, "", 1, "another program listens there"},
		{"a busy port of monitoring", "", "--listen 127.0.0.1:0 --admin-listen " + taken, "", 1, "another program listens there"},
		{"no port", "", "--listen nonsense", "", 2, "give HOST:PORT"},
		{"a folder in use", "", "", w.Data, 1, "another thaw serve works on"},
		{"a file", "", "", binary, 1, "is a file"},
		{"a path below a file", "", "", binary + "/data", 1, "is a file"},
		{"a folder that can't be written", "unshare -m sh -c 'mount -t tmpfs -o ro none /mnt && exec \"$@\"' --", "", "/mnt/data", 1, "can't be written"},
		{"a long path", "", "", t.TempDir() + "/" + strings.Repeat("x", 100), 2, "too long"},
		{"a region that is none", "", "--region Mars", "", 2, "us-east-1"},
		{"an unknown publisher", "", "--publishers nobody", "", 1, "no such tenant"},
		{"a weight of nobody", "", "--tenant-weight nobody=2", "", 1, "no such tenant"},
		{"a weight of nothing", "", "--tenant-weight default=0", "", 2, "from 1 to 1000"},
		{"a reserve of all", "", "--reserve 100", "", 2, "--reserve 100: it is from 0 to 50 percent"},
	} {
		t.Run(try.what, func(t *testing.T) {
			parent := t.TempDir()
			data := try.data
			if data == "" {
				data = filepath.Join(parent, "new", "data")
			}
			flags := "--listen 127.0.0.1:0 --admin-listen '' " + try.flags
			cmd := exec.Command("timeout", "60", "sh", "-c", strings.TrimSpace(try.before+" "+binary+" serve --data "+data+" "+flags))
			out, _ := cmd.CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			said := lines[len(lines)-1]
			if cmd.ProcessState.ExitCode() != try.status || !strings.HasPrefix(said, "thaw: ") || !strings.Contains(said, try.says) {
				t.Errorf("status %d, said %s; want %d, %q", cmd.ProcessState.ExitCode(), out, try.status, try.says)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, error %v", left, err)
			}
		})
	}
}

// TestRegionIsKept: a data folder has one region, that of its first start, whatever
// the environment says later; another that is asked for is refused.
func TestRegionIsKept(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.RequireFUSE(t)
	data := t.TempDir()
	first, err := livetest.Start(t.Context(), data, "--region", "eu-test-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_REGION", "us-west-2")
	out, said, status := command(t, os.Environ(), "serve", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "", "--region", "us-east-1")
	if status != 1 || !strings.Contains(said, "is of region eu-test-1") {
		t.Errorf("another region: status %d, %s%s", status, out, said)
	}
	second, err := livetest.Start(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if second.Region != "eu-test-1" {
		t.Errorf("thaw env says region %s, want eu-test-1", second.Region)
	}
	layout, err := images("go-hello:1")
	if err != nil {
		t.Fatal(err)
	}
	printed, err := second.Thaw(t.Context(), "deploy", "f", layout+":go-hello:1")
	if err != nil || !strings.HasPrefix(printed, "arn:aws:lambda:eu-test-1:") {
		t.Errorf("deployed as %s, %v", printed, err)
	}
}
