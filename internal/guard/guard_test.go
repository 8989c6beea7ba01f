// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"thaw.dev/thaw/internal/testkit"
)

// roleEnv has this program put a role in force instead of testing, and tell what
// it may still do.
const roleEnv = "THAW_TEST_ROLE"

var roles = map[string]Role{"server": Server, "holder": Holder, "loader": Loader, "executing": Loader.Executing(), "ingest": Ingest}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleEnv)]; ok {
		os.Exit(confined(role))
	}
	os.Exit(m.Run())
}

// tries are calls that a role may or may not make. Each would do no harm.
var tries = map[string]func() error{
	"mount":   func() error { return unix.Mount("none", "/nowhere", "tmpfs", 0, "") },
	"unmount": func() error { return unix.Unmount("/nowhere", 0) },
	"execute": func() error { return exec.Command("/bin/true").Run() },
	"socket": func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		_ = unix.Close(fd)
		return err
	},
	"trace":          func() error { return unix.PtraceAttach(nobody) },
	"read memory":    func() error { return call(unix.SYS_PROCESS_VM_READV, nobody, 0, 0) },
	"load a module":  func() error { return call(unix.SYS_FINIT_MODULE, ^uintptr(0), 0, 0) },
	"become another": func() error { return call(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0)) },
	"namespace":      func() error { return unix.Unshare(unix.CLONE_NEWUTS) },
	"io_uring":       func() error { return call(unix.SYS_IO_URING_SETUP, 0, 0, 0) },
}

// nobody is the id of no process.
const nobody = 1<<31 - 1

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// confined puts the role in force and prints what the kernel says of every
// thread, and how the tries end on one that was there before.
func confined(role Role) int {
	work, results := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread()
		for f := range work {
			results <- f()
		}
	}()
	work <- func() error { return nil }
	<-results
	if err := role.Confine(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 1
	}
	for _, thread := range threads {
		status, _ := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"} {
			_, rest, _ := strings.Cut(string(status), key+":")
			line, _, _ := strings.Cut(rest, "\n")
			fmt.Printf("status %s=%s\n", key, strings.TrimSpace(line))
		}
	}
	score, _ := os.ReadFile(scoreFile)
	fmt.Printf("score %s", score)
	for name, try := range tries {
		work <- try
		if err := <-results; errors.Is(err, unix.EPERM) {
			fmt.Println("denied", name)
		}
	}
	return 0
}

// program is this one without cgo, as bin/thaw is: with it a program does not
// know all of its threads.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roles")
	cmd := exec.Command("go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// run returns what a process with the role printed.
func run(t *testing.T, program, role string) (status map[string]map[string]bool, denied map[string]bool, score string) {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = []string{roleEnv + "=" + role}
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v %s", role, err, &problems)
	}
	status, denied = map[string]map[string]bool{}, map[string]bool{}
	for scanner := bufio.NewScanner(strings.NewReader(string(out))); scanner.Scan(); {
		switch what, rest, _ := strings.Cut(scanner.Text(), " "); what {
		case "status":
			key, value, _ := strings.Cut(rest, "=")
			if status[key] == nil {
				status[key] = map[string]bool{}
			}
			status[key][value] = true
		case "denied":
			denied[rest] = true
		case "score":
			score = rest
		}
	}
	return status, denied, score
}

// TestRoles: in every thread a role has its capabilities and no others, gains
// none by what it executes, and is denied what it does not do.
func TestRoles(t *testing.T) {
	testkit.RequireRoot(t)
	have := own(t) // a test in a container has less than all
	mask := func(role Role) string {
		var m uint64
		for _, c := range role.keep {
			m |= 1 << c
		}
		return fmt.Sprintf("%016x", m&have)
	}
	self := program(t)
	for name, may := range map[string][]string{
		"server": {"mount", "unmount", "execute", "socket", "trace", "read memory", "become another", "namespace", "io_uring"},
		"holder": {"mount", "unmount", "socket"}, "loader": {"socket"}, "executing": {"socket", "execute"}, "ingest": {},
	} {
		status, denied, score := run(t, self, name)
		role := roles[name]
		sets := map[string]string{"CapInh": strings.Repeat("0", 16), "CapAmb": strings.Repeat("0", 16),
			"CapPrm": mask(role), "CapEff": mask(role), "CapBnd": mask(role), "NoNewPrivs": "1", "Seccomp": "2"}
		if name == "server" {
			sets["NoNewPrivs"], sets["Seccomp"] = "0", "0"
		}
		for key, value := range sets {
			if len(status[key]) != 1 || !status[key][value] {
				t.Errorf("%s: %s is %v in its threads, want %s", name, key, status[key], value)
			}
		}
		want := role.score
		if have&(1<<unix.CAP_SYS_RESOURCE) == 0 && want < 0 {
			want = role.raised
		}
		if score != fmt.Sprint(want) {
			t.Errorf("%s: the score is %s, want %d", name, score, want)
		}
		for _, can := range may {
			if denied[can] {
				t.Errorf("%s can't %s", name, can)
			}
			delete(denied, can)
		}
		if name != "server" && len(denied) != len(tries)-len(may) {
			t.Errorf("%s: denied besides are %v of %d", name, denied, len(tries)-len(may))
		}
	}
}

// TestOrder: who is killed before whom.
func TestOrder(t *testing.T) {
	roles := []Role{Holder, Server, Loader, Ingest, {score: Sandbox, raised: Sandbox}}
	for i, r := range roles[1:] {
		if roles[i].score >= r.score || roles[i].raised >= r.raised && r.raised > 0 {
			t.Errorf("the scores do not rise: %+v, %+v", roles[i], r)
		}
	}
}

// own are the capabilities of this process.
func own(t *testing.T) uint64 {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		t.Fatal(err)
	}
	return uint64(have[1].Permitted)<<32 | uint64(have[0].Permitted)
}

// TestOtherArchitecture: the numbers of another architecture's calls are no way
// around the filter.
func TestOtherArchitecture(t *testing.T) {
	program, err := compile(Loader.denied)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	native, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	const other, bytes = 0x40000003, 64 // i386; of struct seccomp_data
	for _, c := range []struct {
		arch, number uint32
		allowed      bool
	}{{uint32(native.ID), unix.SYS_GETPID, true}, {uint32(native.ID), unix.SYS_MOUNT, false}, {other, unix.SYS_GETPID, false}, {other, unix.SYS_MOUNT, false}} {
		data := make([]byte, bytes)
		binary.BigEndian.PutUint32(data, c.number) // as this machine reads it
		binary.BigEndian.PutUint32(data[4:], c.arch)
		got, err := vm.Run(data)
		if err != nil || uint32(got) == uint32(seccomp.ActionAllow) != c.allowed {
			t.Errorf("call %d of architecture %#x: %#x, %v", c.number, c.arch, got, err)
		}
	}
}
