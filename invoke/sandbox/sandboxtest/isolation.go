// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/guard"
	"thaw.dev/thaw/invoke/sandbox"
)

func testSees(t *testing.T, h *harness) {
	v := h.look(t, nil, "/proc/kcore", "/proc/keys", "/sys/firmware", "/dev/shm", "/dev/pts", "/dev/mem", "/proc/sysrq-trigger", "/etc/hosts",
		"/proc/sys/user/max_user_namespaces", "/proc/sys/net/ipv4/tcp_max_tw_buckets")
	none := strings.Repeat("0", 16)
	for key, want := range map[string]string{
		"Uid": "993\t993\t993\t993", "Gid": "990\t990\t990\t990", "Groups": "", "NoNewPrivs": "1", "Seccomp": "2",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
	} {
		if got := v.Status[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"environment", v.Env, []string{}}, {"working directory", v.Dir, "/"}, {"host name", v.Hostname, "localhost"},
		{"interfaces", v.Interfaces, []string{"lo"}}, {"umask", v.Umask, 0o022}, {"own session", v.Session, true},
		{"limits", v.Limits, map[string]string{"nofile": "1024", "nproc": "1024", "core": "0"}},
		{"devices", v.Devices, []string{"fd", "full", "null", "random", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}},
	} {
		if fmt.Sprint(c.got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	if n, err := strconv.Atoi(v.OOMScore); err != nil || n <= guard.Sandbox {
		t.Errorf("OOM score %q: process 1 or one of the host's would go first", v.OOMScore)
	}
	if len(v.Processes) > 2 {
		t.Errorf("sees processes %v", v.Processes)
	}
	if f := strings.Fields(v.UIDMap); len(f) != 3 || f[0] != "0" || f[1] == "0" || v.UIDMap != v.GIDMap {
		t.Errorf("ids are mapped %q and %q", v.UIDMap, v.GIDMap)
	} else if owner := ownerOf(t, "/dev/null"); owner == f[1] {
		t.Errorf("the host's /dev/null belongs to user %s, which is root inside", owner)
	}
	for _, path := range []string{"/dev/shm", "/dev/pts", "/dev/mem"} {
		if v.Paths[path] != "ENOENT" {
			t.Errorf("%s: %s", path, v.Paths[path])
		}
	}
	for path, want := range map[string]string{"/proc/sys/user/max_user_namespaces": `"0\n"`, "/proc/sys/net/ipv4/tcp_max_tw_buckets": `"8192\n"`} {
		if !strings.Contains(v.Paths[path], want) {
			t.Errorf("%s: %s, want %s", path, v.Paths[path], want)
		}
	}
	if !strings.Contains(v.Paths["/etc/hosts"], "127.0.0.1 localhost") {
		t.Errorf("/etc/hosts: %s", v.Paths["/etc/hosts"])
	}
	for _, fd := range v.FDs {
		// What the probe itself opened while it started is above 2.
		if n, target, _ := strings.Cut(fd, " "); n <= "2" && len(n) == 1 && target != "/dev/null" && target != "pipe" {
			t.Errorf("descriptor %s", fd)
		} else if strings.HasPrefix(target, "socket") || strings.Contains(target, "memfd") {
			t.Errorf("descriptor %s leaks in", fd)
		}
	}
	for ns, id := range v.Namespaces {
		if host, _ := os.Readlink("/proc/self/ns/" + ns); id == host || id == "" {
			t.Errorf("shares the host's %s namespace", ns)
		}
	}
	for _, m := range v.Mounts {
		checkMount(t, m)
	}
}

// ownerOf returns the user that a file of the host belongs to.
func ownerOf(t *testing.T, path string) string {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(stat.Uid))
}

// checkMount checks one line "point type options" of a sandbox's mounts.
func checkMount(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	point, kind, options := f[0], f[1], strings.Split(f[2], ",")
	has := func(o string) bool { return slices.Contains(options, o) }
	switch {
	case kind == "devtmpfs": // a device bound over a name
	case point == "/proc" || point == "/tmp":
		if !has("nosuid") || !has("nodev") {
			t.Errorf("mount %s", line)
		}
	case !has("ro"):
		t.Errorf("writable mount %s", line)
	}
	if point == "/" && (!has("nodev") || !has("nosuid")) {
		t.Errorf("mount %s", line)
	}
	if kind == "ext4" && point != "/tmp" || strings.Contains(kind, "fuse") {
		t.Errorf("a mount of the host: %s", line)
	}
}

func testAsked(t *testing.T, h *harness) {
	v := h.look(t, func(s *sandbox.Spec) {
		s.Args[0] = "on-path"
		s.Env, s.Dir, s.Files, s.MemoryBytes = []string{"PATH=/bin", "A=b=c", "EMPTY="}, "/work", 100, 200<<20
	})
	for _, c := range []struct{ got, want any }{
		{v.Args[0], "on-path"}, {v.Env, []string{"PATH=/bin", "A=b=c", "EMPTY="}}, {v.Dir, "/work"},
		{v.Limits["nofile"], "100"}, {v.MemoryLimit, strconv.Itoa(200 << 20)},
	} {
		if describe(c.got) != describe(c.want) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

// testOwners checks that owners are those of the image although user ids are
// mapped.
func testOwners(t *testing.T, h *harness) {
	v := h.look(t, nil, "/probe", "/secret", "/of-12345", "/of-993", "/work", "/setuid-probe")
	for path, want := range map[string]string{
		"/probe": "0:0 100755", "/secret": "0:0 100600 open EACCES", "/of-12345": "12345:12345 100644", "/of-993": `993:993 100600 "own"`,
		"/work": "0:0 40755", "/setuid-probe": "0:0 106755",
	} {
		if !strings.HasPrefix(v.Paths[path], want) {
			t.Errorf("%s: %q, want %q", path, v.Paths[path], want)
		}
	}
}

// refusals are the outcomes of an attempt that failed because it is forbidden.
var refusals = []string{"EPERM", "EACCES", "EROFS", "ENOSYS"}

// otherRefusals are outcomes that mean "forbidden" for one attempt only.
var otherRefusals = map[string][]string{
	"ioctl inject to tty":  {"ENOTTY", "EIO"},
	"listen on API's port": {"EADDRINUSE"},
	"read kcore":           {"ENODATA", "ENOENT"}, // masked, or not in this kernel
	"sysrq":                {"ENOENT"},            // not in this kernel
	"write sysfs":          {"ENOENT"},
	"write own cgroup":     {"ENOENT"}, // cgroup v2 has no such name
	"make cgroup":          {"ENOENT"},
	"umount proc":          {"EINVAL"},
}

// allowed are attempts that must succeed: functions rely on them.
var allowed = []string{"execute /tmp"}

func testDenied(t *testing.T, h *harness) { CheckAttempts(t, h.attempts(t)) }

// CheckAttempts checks the outcomes of "probe try" in an image that [Plant]
// made.
func CheckAttempts(t testing.TB, results map[string]string) {
	t.Helper()
	if len(results) < 40 {
		t.Errorf("only %d attempts", len(results))
	}
	for name, outcome := range results {
		switch {
		case name == "lower oom score" && !mayLowerScores(t):
			t.Logf("%s: %s, and without CAP_SYS_RESOURCE nobody on this host can forbid it", name, outcome)
		case slices.Contains(allowed, name):
			if outcome != "ok" {
				t.Errorf("%s: %s, want ok", name, outcome)
			}
		case !slices.Contains(refusals, outcome) && !slices.Contains(otherRefusals[name], outcome):
			t.Errorf("%s: %s", name, outcome)
		}
	}
}

// mayLowerScores reports whether this process, the launcher's, has
// CAP_SYS_RESOURCE.
func mayLowerScores(t testing.TB) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		t.Fatal(err)
	}
	return have[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func (h *harness) attempts(t testing.TB) map[string]string {
	t.Helper()
	results := map[string]string{}
	h.start(t, nil, "try").answer(t, &results)
	return results
}

// testOwnAPI shows that each sandbox reaches its own listener at the same
// address, and that it is there before the command.
func testOwnAPI(t *testing.T, h *harness) {
	var boxes []*box
	for range 3 {
		boxes = append(boxes, h.start(t, nil, "api", sandbox.APIAddress, "hello"))
	}
	for i, b := range boxes {
		conn, err := b.Listener().Accept()
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if line != "hello\n" {
			t.Errorf("got %q, %v", line, err)
		}
		fmt.Fprintf(conn, "you are %d\n", i)
		_ = conn.Close()
	}
	for i, b := range boxes {
		if b.wait(t); b.out.String() != fmt.Sprintf("you are %d\n", i) {
			t.Errorf("sandbox %d was answered %q %q", i, b.out, b.errs)
		}
	}
	b := boxes[0]
	b.stop(t)
	if _, err := b.Listener().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after stop: %v", err)
	}
}

func testHostUnreachable(t *testing.T, h *harness) {
	var addresses []string
	for _, at := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", port))
		all, err := net.InterfaceAddrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if ip := a.(*net.IPNet).IP.To4(); ip != nil {
				addresses = append(addresses, fmt.Sprintf("%s:%d", ip, port))
			}
		}
	}
	addresses = append(addresses, "169.254.169.254:80", "10.0.0.1:80")
	results := map[string]string{}
	h.start(t, nil, append([]string{"connect"}, addresses...)...).answer(t, &results)
	for address, outcome := range results {
		if outcome != "ECONNREFUSED" && outcome != "ENETUNREACH" {
			t.Errorf("connect to %s: %s", address, outcome)
		}
	}
	if len(results) == 0 {
		t.Error("nothing was tried")
	}
}

// testNeighbours shows that two sandboxes of one image share nothing that one
// could read of the other.
func testNeighbours(t *testing.T, h *harness) {
	const secret = "squeamish-ossifrage"
	victim := h.start(t, func(s *sandbox.Spec) { s.Env = []string{"SECRET=" + secret} }, "sleep", secret)
	victim.says(t, "ready")
	var wrote []string
	holder := h.start(t, func(s *sandbox.Spec) { s.Env = []string{"SECRET=" + secret} }, "write", "/tmp/"+secret)
	holder.answer(t, &wrote)
	if wrote[0] != "ok" {
		t.Fatalf("write to /tmp: %v", wrote)
	}
	var stolen []string
	h.start(t, nil, "steal", secret).answer(t, &stolen)
	if len(stolen) > 0 {
		t.Errorf("read the neighbour's %v", stolen)
	}
	mine, theirs := h.look(t, nil, "/tmp/"+secret), h.look(t, nil)
	if mine.Paths["/tmp/"+secret] != "ENOENT" {
		t.Errorf("sees the neighbour's file: %s", mine.Paths["/tmp/"+secret])
	}
	for ns := range mine.Namespaces {
		if mine.Namespaces[ns] == theirs.Namespaces[ns] {
			t.Logf("%s namespace %s was used again", ns, mine.Namespaces[ns]) // the first one has ended
		}
	}
	if mine.UIDMap == theirs.UIDMap {
		t.Errorf("two sandboxes have the ids %q", mine.UIDMap)
	}
	own := victim.pidNamespace(t)
	if n := processesOf(own); n == 0 {
		t.Errorf("the victim is not in its namespace %s", own.name)
	}
}

// testReadOnlyRoot: no permission of the image lets a function write there.
func testReadOnlyRoot(t *testing.T, h *harness) {
	var wrote []string
	h.start(t, nil, "write", "/writable/new").answer(t, &wrote)
	if wrote[0] != "EROFS" {
		t.Errorf("in a folder that is everyone's to write: %v", wrote)
	}
	if _, err := os.Stat(filepath.Join(h.root, "writable/new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the write reached the image: %v", err)
	}
}
