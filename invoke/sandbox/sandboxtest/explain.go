// SPDX-License-Identifier: Apache-2.0

package sandboxtest

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw/invoke/sandbox"
)

// elf is the front of a 64-bit little-endian ELF file that asks for a loader.
func elf(machine, kind uint16, loader string) []byte {
	const header, entry = 64, 56
	b := make([]byte, header+entry)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], kind)
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], header) // of the program headers
	le.PutUint16(b[52:], header)
	le.PutUint16(b[54:], entry)
	le.PutUint16(b[56:], 1)
	p := b[header:]
	le.PutUint32(p, 3) // PT_INTERP
	le.PutUint64(p[8:], header+entry)
	le.PutUint64(p[32:], uint64(len(loader)+1))
	le.PutUint64(p[40:], uint64(len(loader)+1))
	return append(b, loader+"\x00"...)
}

// ownMachine is the ELF machine of this host.
func ownMachine() (own, other uint16) {
	const amd64, arm64 = 62, 183
	var u unix.Utsname
	if unix.Uname(&u) == nil && strings.HasPrefix(unix.ByteSliceToString(u.Machine[:]), "aarch64") {
		return arm64, amd64
	}
	return amd64, arm64
}

// broken is an entry point that can't be executed.
type broken struct {
	name    string // below /broken
	content []byte
	mode    uint32
	fault   sandbox.Fault
	errno   syscall.Errno
	hint    string // a part of it; "" for none
}

func brokenPrograms() []broken {
	own, other := ownMachine()
	const missing, notExecutable = sandbox.FaultEntrypointMissing, sandbox.FaultEntrypointNotExecutable
	script := func(text string) []byte { return []byte(text) }
	return []broken{
		{"crlf", script("#!/bin/sh\r\necho\r\n"), 0o755, missing, syscall.ENOENT, `/broken/crlf asks for the interpreter "/bin/sh\r": its lines end as in Windows (CRLF)`},
		{"no-node", script("#!/usr/bin/node --max\n"), 0o755, missing, syscall.ENOENT, `asks for the interpreter "/usr/bin/node", which the image does not have`},
		{"spaces", script("#! \t/usr/bin/node\n"), 0o755, missing, syscall.ENOENT, `asks for the interpreter "/usr/bin/node", which`},
		{"no-line-end", script("#!/usr/bin/node"), 0o755, missing, syscall.ENOENT, `asks for the interpreter "/usr/bin/node", which`},
		{"two", script("#!/broken/no-node\n"), 0o755, missing, syscall.ENOENT, `asks for the interpreter "/broken/no-node": /broken/no-node asks for the interpreter "/usr/bin/node"`},
		{"closed-interpreter", script("#!/broken/no-mode\n"), 0o755, notExecutable, syscall.EACCES, `"/broken/no-mode": /broken/no-mode has mode 0644`},
		{"directory-interpreter", script("#!/work\n"), 0o755, notExecutable, syscall.EACCES, `"/work": /work is a directory`},
		{"empty-interpreter", script("#! \n"), 0o755, notExecutable, syscall.ENOEXEC, "names no interpreter"},
		{"glibc", elf(own, 3, "/lib64/ld-linux-x86-64.so.2"), 0o755, missing, syscall.ENOENT, `needs the loader "/lib64/ld-linux-x86-64.so.2", which the image does not have: it was built for glibc`},
		{"musl", elf(own, 3, "/lib/ld-musl-x86_64.so.1"), 0o755, missing, syscall.ENOENT, "it was built on Alpine (musl)"},
		{"other-machine", elf(other, 2, "/x"), 0o755, notExecutable, syscall.ENOEXEC, "is a program for "},
		{"object", elf(own, 1, "/x"), 0o755, notExecutable, syscall.ENOEXEC, "but no program"},
		{"cut", elf(own, 2, "/x")[:40], 0o755, notExecutable, syscall.ENOEXEC, "is cut off"},
		{"empty", nil, 0o755, notExecutable, syscall.ENOEXEC, "/broken/empty is empty"},
		{"text", script("echo hello\n"), 0o755, notExecutable, syscall.ENOEXEC, "is a text without a first line such as #!/bin/sh"},
		{"bom", script("\xef\xbb\xbf#!/probe\n"), 0o755, notExecutable, syscall.ENOEXEC, "begins with a byte order mark"},
		{"blank-line", script("\n#!/probe\n"), 0o755, notExecutable, syscall.ENOEXEC, "has something before its #!"},
		{"windows", script("MZ\x90\x00"), 0o755, notExecutable, syscall.ENOEXEC, "is a program for Windows"},
		{"macos", script("\xcf\xfa\xed\xfe\x00"), 0o755, notExecutable, syscall.ENOEXEC, "macOS"},
		{"bytes", script("\x01\x00\x02"), 0o755, notExecutable, syscall.ENOEXEC, "is in no format that Linux executes"},
		{"no-mode", script("#!/probe\n"), 0o644, notExecutable, syscall.EACCES, "/broken/no-mode has mode 0644 and belongs to user 0, so the function's user may not execute it; chmod 755 it"},
		{"root-only", script("#!/probe\n"), 0o700, notExecutable, syscall.EACCES, "/broken/root-only has mode 0700"},
	}
}

// plantBroken adds them to a tree.
func plantBroken(t testing.TB, tree string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(tree, "broken"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, b := range brokenPrograms() {
		path := filepath.Join(tree, "broken", b.name)
		if err := errors.Join(os.WriteFile(path, b.content, 0o644), unix.Chmod(path, b.mode)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"dangling": "/usr/local/app", "loop": "loop", "crlf-link": "crlf"} {
		if err := os.Symlink(target, filepath.Join(tree, "broken", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// testHints: an owner is told what the image lacks, not only the kernel's errno.
func testHints(t *testing.T, h *harness) {
	const missing, notExecutable = sandbox.FaultEntrypointMissing, sandbox.FaultEntrypointNotExecutable
	cases := brokenPrograms()
	for i := range cases {
		cases[i].name = "/broken/" + cases[i].name
	}
	cases = append(cases,
		broken{name: "/broken/dangling", fault: missing, errno: syscall.ENOENT, hint: "/broken/dangling is a symbolic link to /usr/local/app, which the image does not have"},
		broken{name: "/broken/loop", fault: notExecutable, errno: syscall.ELOOP, hint: "/broken/loop is a symbolic link that leads to itself"},
		broken{name: "/broken/crlf-link", fault: missing, errno: syscall.ENOENT, hint: "CRLF"},
		broken{name: "/usr/local/bin/app", fault: missing, errno: syscall.ENOENT, hint: "the image has no /usr"},
		broken{name: "./app", fault: missing, errno: syscall.ENOENT, hint: "the image has no ./app"},
		broken{name: "/open/app", fault: missing, errno: syscall.ENOTDIR, hint: "/open is not a directory"},
		broken{name: "/closed/app", fault: notExecutable, errno: syscall.EACCES},
		broken{name: "/directory", fault: notExecutable, errno: syscall.EACCES, hint: "/directory is a directory"},
		broken{name: "/image-device", fault: notExecutable, errno: syscall.EACCES, hint: "is not a regular file"},
		broken{name: "nowhere", fault: missing, errno: syscall.ENOENT, hint: "no directory of PATH (/bin:/broken) has a file of that name"},
		broken{name: "no-mode", fault: missing, errno: syscall.ENOENT, hint: "/broken/no-mode has mode 0644"},
		broken{name: "/" + strings.Repeat("x", 100_000), fault: notExecutable, errno: syscall.ENAMETOOLONG, hint: "the path has 100001 bytes"},
	)
	for _, c := range cases {
		t.Run(strings.Trim(strings.ReplaceAll(c.name[:min(len(c.name), 30)], "/", "_"), "_"), func(t *testing.T) {
			exit := h.start(t, func(s *sandbox.Spec) { s.Args[0], s.Env = c.name, []string{"PATH=/bin:/broken"} }, "exit", "0").wait(t)
			e, ok := errors.AsType[*sandbox.ExecError](exit.Err)
			if !ok || e.Fault != c.fault || e.Errno != c.errno {
				t.Fatalf("exit %+v, want fault %v, %v", exit, c.fault, c.errno)
			}
			if !strings.Contains(e.Hint, c.hint) || len(e.Hint) > 1000 {
				t.Errorf("%q, want %q", e.Hint, c.hint)
			}
		})
	}
}

// testLargeEnvironment: what the kernel passes to a program arrives, and what it
// does not is told as a fault.
func testLargeEnvironment(t *testing.T, h *harness) {
	variables := func(n int) []string { return slices.Repeat([]string{"V=" + strings.Repeat("y", 1000)}, n) }
	longest := "V=" + strings.Repeat("y", 128<<10-3)
	for name, env := range map[string][]string{"200 KB": variables(200), "2 MB": variables(2000), "one string": {longest}} {
		if exit := h.start(t, func(s *sandbox.Spec) { s.Env = env }, "exit", "5").wait(t); exit.Code != 5 {
			t.Errorf("%s: %+v", name, exit)
		}
	}
	for name, env := range map[string][]string{"2.2 MB": variables(2200), "3.5 MB": variables(3500), "one string": {longest + "y"}} {
		exit := h.start(t, func(s *sandbox.Spec) { s.Env = env }, "exit", "5").wait(t)
		e, ok := errors.AsType[*sandbox.ExecError](exit.Err)
		if !ok || e.Errno != syscall.E2BIG || !strings.Contains(e.Hint, "more than the kernel passes") {
			t.Errorf("%s: %+v", name, exit)
		}
	}
}
