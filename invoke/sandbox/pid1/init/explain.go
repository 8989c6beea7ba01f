// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// headBytes is how much of a program is looked at. The kernel reads 256 of
	// a script's first line; an ELF file has its program headers at its front.
	headBytes = 4096
	lineBytes = 256

	// maxInterpreters is how many scripts in a row the kernel goes through.
	maxInterpreters = 5
)

// What is read of an ELF file (elf(5)). debug/elf would make this program, of
// which each waiting sandbox has one, a sixth larger.
const (
	elfMagic    = "\x7fELF"
	elfClass64  = 2
	elfBigOrder = 2
	elfExec     = 2 // a program
	elfShared   = 3 // a program that can be anywhere, or a library
	elfInterp   = 3 // the program header that names the loader
)

// elfMachine names the processors that programs are met for.
func elfMachine(n uint64) string {
	switch n {
	case 3:
		return "386"
	case 40:
		return "arm"
	case 62:
		return "amd64"
	case 183:
		return "arm64"
	case 21:
		return "ppc64le"
	case 22:
		return "s390x"
	case 243:
		return "riscv64"
	}
	return "ELF machine " + strconv.FormatUint(n, 10)
}

// explain says for people what keeps a command from being executed, where the
// kernel's errno alone does not; "" where there is no more to say. It looks
// into the image from inside the sandbox, and trusts nothing that it reads.
func explain(order []string, env []string, path string, err error) string {
	errno, _ := errors.AsType[unix.Errno](err)
	switch {
	case errno == unix.E2BIG:
		bytes := 0
		for _, s := range append(append([]string{}, order...), env...) {
			bytes += len(s) + 1 + 8
		}
		return "arguments and environment take " + strconv.Itoa(bytes) + " bytes, more than the kernel passes to a program"
	case errno == unix.ENAMETOOLONG:
		return "the path has " + strconv.Itoa(len(path)) + " bytes, or a name in it more than 255; it may have 4095"
	case !strings.Contains(path, "/"):
		return onPath(path, env)
	}
	return inspect(path, errno, maxInterpreters)
}

// onPath explains a name that is looked up.
func onPath(name string, env []string) string {
	search := searchPath(env)
	for dir := range strings.SplitSeq(search, ":") {
		at := strings.TrimSuffix(dir, "/") + "/" + name
		var stat unix.Stat_t
		if unix.Stat(at, &stat) == nil {
			return notExecutable(at, stat)
		}
	}
	return "no directory of PATH (" + search + ") has a file of that name; name the program by its absolute path"
}

// inspect explains a path, and what its file names as its interpreter.
func inspect(path string, errno unix.Errno, depth int) string {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return absence(path)
	}
	if hint := notExecutable(path, stat); hint != "" {
		return hint
	}
	head, ok := read(path)
	if !ok || depth == 0 {
		return ""
	}
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return script(path, head, errno, depth)
	case bytes.HasPrefix(head, []byte(elfMagic)):
		return program(path, head)
	case errno == unix.ENOEXEC:
		return noFormat(path, head)
	}
	return ""
}

// notExecutable explains a file that may not be executed, whatever is in it.
func notExecutable(path string, stat unix.Stat_t) string {
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return path + " is a directory"
	default:
		return path + " is not a regular file"
	}
	if unix.Faccessat2(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) == nil && stat.Mode&0o111 != 0 {
		return ""
	}
	hint := path + " has mode 0" + strconv.FormatUint(uint64(stat.Mode&0o7777), 8) + " and belongs to user " +
		strconv.FormatUint(uint64(stat.Uid), 10) + ", so the function's user may not execute it"
	if stat.Mode&0o001 == 0 {
		hint += "; chmod 755 it (COPY --chmod=755)"
	}
	return hint
}

// absence says which part of a path is not there.
func absence(path string) string {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		part := path[:i]
		var stat unix.Stat_t
		switch err := unix.Stat(part, &stat); {
		case err == unix.EACCES:
			return "the function's user may not look into the directory that holds " + part
		case err == unix.ELOOP:
			return part + " is a symbolic link that leads to itself"
		case err != nil:
			target := make([]byte, unix.PathMax)
			if n, err := unix.Readlink(part, target); err == nil {
				return part + " is a symbolic link to " + string(target[:n]) + ", which the image does not have"
			}
			return "the image has no " + part
		case i < len(path) && stat.Mode&unix.S_IFMT != unix.S_IFDIR:
			return part + " is not a directory"
		}
	}
	return ""
}

// script explains a file that begins with #!.
func script(path string, head []byte, errno unix.Errno, depth int) string {
	line, _, ended := bytes.Cut(head[2:min(len(head), lineBytes)], []byte("\n"))
	name := string(bytes.TrimLeft(line, " \t"))
	if i := strings.IndexAny(name, " \t\x00"); i >= 0 {
		name = name[:i]
	}
	switch {
	case name == "":
		return path + " begins with #! but names no interpreter"
	case !ended && len(head) >= lineBytes && len(name) == len(bytes.TrimLeft(line, " \t")):
		return path + " names an interpreter that is longer than the kernel reads"
	}
	asks := path + " asks for the interpreter " + strconv.Quote(name)
	var stat unix.Stat_t
	if unix.Stat(name, &stat) == nil {
		if hint := inspect(name, errno, depth-1); hint != "" {
			return asks + ": " + hint
		}
		return ""
	}
	if strings.HasSuffix(name, "\r") {
		return asks + ": its lines end as in Windows (CRLF), and the carriage return is taken for a part of the name; save it with LF"
	}
	return asks + ", which the image does not have"
}

// program explains an ELF file: built for another processor, or with a loader
// that is not there.
func program(path string, head []byte) string {
	if len(head) < 64 {
		return path + " is cut off: an ELF file has 64 bytes at least"
	}
	file := elfFile{head: head, big: head[5] == elfBigOrder}
	machine := elfMachine(file.number(18, 2))
	if head[4] != elfClass64 && machine == runtime.GOARCH {
		machine += " with 32 bits"
	}
	if machine != runtime.GOARCH {
		return path + " is a program for " + machine + ", this host runs " + runtime.GOARCH + ": build the image for linux/" + runtime.GOARCH
	}
	if kind := file.number(16, 2); kind != elfExec && kind != elfShared {
		return path + " is an ELF file, but no program (an object file or a dump)"
	}
	loader := file.interpreter()
	if loader == "" {
		return ""
	}
	var stat unix.Stat_t
	if unix.Stat(loader, &stat) == nil {
		return notExecutable(loader, stat)
	}
	hint := path + " needs the loader " + strconv.Quote(loader) + ", which the image does not have"
	switch {
	case strings.Contains(loader, "musl"):
		hint += ": it was built on Alpine (musl), and the image is another distribution's"
	case strings.Contains(loader, "ld-linux"):
		hint += ": it was built for glibc, and the image has another C library (Alpine has musl) or none; build it statically or in the image's own distribution"
	}
	return hint
}

// elfFile is the front of a 64-bit ELF file.
type elfFile struct {
	head []byte
	big  bool // big-endian
}

// number returns an unsigned number of so many bytes, 0 where there is none.
func (f elfFile) number(at, size uint64) uint64 {
	if at > headBytes || at+size > uint64(len(f.head)) {
		return 0
	}
	var n uint64
	for i := range size {
		b := uint64(f.head[at+i])
		if f.big {
			n = n<<8 | b
		} else {
			n |= b << (8 * i)
		}
	}
	return n
}

// interpreter returns the loader that the file names, if it can be read off its
// front.
func (f elfFile) interpreter() string {
	headers, size, count := f.number(32, 8), f.number(54, 2), f.number(56, 2)
	for i := range min(count, 64) {
		header := headers + i*size
		if f.number(header, 4) != elfInterp {
			continue
		}
		from, length := f.number(header+8, 8), f.number(header+32, 8)
		if from > headBytes || length > headBytes || from+length > uint64(len(f.head)) {
			return ""
		}
		return string(bytes.TrimRight(f.head[from:from+length], "\x00"))
	}
	return ""
}

// noFormat explains a file that is neither a script nor an ELF file.
func noFormat(path string, head []byte) string {
	trimmed := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case len(head) == 0:
		return path + " is empty"
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf#!")):
		return path + " begins with a byte order mark, not with #!; save it as UTF-8 without one"
	case bytes.HasPrefix(trimmed, []byte("#!")):
		return path + " has something before its #!, which must be its first two bytes"
	case bytes.HasPrefix(head, []byte("MZ")):
		return path + " is a program for Windows"
	case bytes.HasPrefix(head, []byte("\xcf\xfa\xed\xfe")), bytes.HasPrefix(head, []byte("\xca\xfe\xba\xbe")):
		return path + " is a program for macOS or a Java class"
	case bytes.IndexByte(head, 0) < 0:
		return path + " is a text without a first line such as #!/bin/sh: begin it with one, or name its interpreter in ENTRYPOINT"
	}
	return path + " is in no format that Linux executes"
}

// read returns the front of a file.
func read(path string) ([]byte, bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	head := make([]byte, headBytes)
	n := 0
	for n < len(head) {
		got, err := unix.Pread(fd, head[n:], int64(n))
		if err != nil {
			return nil, false
		}
		if got == 0 {
			break
		}
		n += got
	}
	return head[:n], true
}
