// SPDX-License-Identifier: Apache-2.0

// Command probe is a function that reports what it sees and does what it is
// told, for tests: it lists the tree it runs in, sleeps, allocates, exits.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"golang.org/x/sys/unix"
)

// command is one event; the first field that is set is done.
type command struct {
	List    bool    `json:"list"`    // list the tree, from entry From
	From    int     `json:"from"`    //
	SleepS  float64 `json:"sleep"`   // answer after so many seconds
	AllocMB int     `json:"alloc"`   // touch so much memory
	Exit    *int    `json:"exit"`    // end the process
	Read    string  `json:"read"`    // read a file
	Write   string  `json:"write"`   // create a file
	Dial    string  `json:"dial"`    // connect to HOST:PORT
	Environ bool    `json:"environ"` // the environment
	Hash    string  `json:"hash"`    // SHA-256 of every file below a folder
	Loop    bool    `json:"loop"`    // never answer, and burn CPU
	Print   string  `json:"print"`   // write a line to standard output
	Pid     bool    `json:"pid"`     // which process this is

	Run  []string `json:"run"`  // run a program until it ends
	Find string   `json:"find"` // whether a text is in the file In
	In   string   `json:"in"`

	Fill   string `json:"fill"` // write a file of FillMB, over what it held
	FillMB int    `json:"fillMB"`
	Size   string `json:"size"` // of a file

	Abuse abuse `json:"abuse"` // take of the server what it does for a function
}

// pageEntries bounds the entries of one answer, so that it stays below 6 MB.
const pageEntries = 8000

// started tells one process from another; process ids repeat across sandboxes.
var started = time.Now().UnixNano()

func main() {
	if d, err := time.ParseDuration(os.Getenv("PROBE_INIT")); err == nil { // how long initialisation takes
		time.Sleep(d)
	}
	lambda.Start(handle)
}

func handle(ctx context.Context, c command) (any, error) {
	switch {
	case c.List:
		return list(c.From)
	case c.SleepS > 0:
		time.Sleep(time.Duration(c.SleepS * float64(time.Second)))
		return "slept", nil
	case c.AllocMB > 0:
		return alloc(c.AllocMB), nil
	case c.Exit != nil:
		os.Exit(*c.Exit)
	case c.Read != "":
		text, err := os.ReadFile(c.Read)
		return string(text), err
	case c.Write != "":
		return "written", os.WriteFile(c.Write, []byte("probe"), 0o644)
	case c.Dial != "":
		conn, err := net.DialTimeout("tcp", c.Dial, 2*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return "connected", err
	case c.Environ:
		return os.Environ(), nil
	case c.Hash != "":
		return hashTree(c.Hash)
	case c.Loop:
		for { //nolint:staticcheck // to use the whole CPU is what it was asked for
		}
	case c.Print != "":
		_, err := fmt.Println(c.Print)
		return "printed", err
	case c.Find != "":
		text, err := os.ReadFile(c.In)
		return strings.Contains(string(text), c.Find), err
	case c.Fill != "":
		return fill(c.Fill, c.FillMB), nil
	case c.Size != "":
		info, err := os.Stat(c.Size)
		if err != nil {
			return nil, err
		}
		return info.Size(), nil
	case c.Abuse.Kind != "":
		return c.Abuse.run()
	case len(c.Run) > 0:
		return run(ctx, c.Run)
	}
	return map[string]any{"pid": os.Getpid(), "started": started}, nil
}

// ran is what came of a program.
type ran struct {
	Output string `json:"output"` // standard output
	Errors string `json:"errors"`
	Exit   string `json:"exit"` // "" where it succeeded
}

// run runs a program to its end, past the deadline too: it is not for the function
// to see that its time is over.
func run(ctx context.Context, args []string) (ran, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(context.WithoutCancel(ctx), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := ran{Output: out.String(), Errors: errs.String()}
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		r.Exit, err = ended.String(), nil
	}
	return r, err
}

// filled is what came of writing.
type filled struct {
	MB    int    `json:"mb"` // written
	Error string `json:"error"`
}

func fill(path string, megabytes int) filled {
	f, err := os.Create(path)
	if err != nil {
		return filled{Error: err.Error()}
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for i := range megabytes {
		if _, err := f.Write(block); err != nil {
			return filled{MB: i, Error: err.Error()}
		}
	}
	return filled{MB: megabytes}
}

func alloc(megabytes int) string {
	memory := make([]byte, megabytes<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	return fmt.Sprint(len(memory))
}

func hashTree(root string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(sum, file)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// entry is a file as stat(2) and the rest of the file system calls tell of it.
type entry struct {
	Path   string            `json:"path"`
	Mode   uint32            `json:"mode"`
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size,omitempty"`
	Mtime  int64             `json:"mtime"` // nanoseconds since 1970
	Links  uint64            `json:"links"`
	Rdev   uint64            `json:"rdev,omitempty"`
	Target string            `json:"target,omitempty"`
	Hash   string            `json:"hash,omitempty"`
	Xattrs map[string]string `json:"xattrs,omitempty"`
}

// mounted are the places where the sandbox mounts something over the image.
var mounted = []string{"/proc", "/sys", "/dev", "/tmp", "/etc/hosts", "/etc/resolv.conf"}

type page struct {
	Entries []entry `json:"entries"`
	More    bool    `json:"more"`
}

func list(from int) (page, error) {
	var p page
	n := 0
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil && !os.IsPermission(err) {
			return err
		}
		if slices.Contains(mounted, path) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		n++
		if n <= from {
			return nil
		}
		if len(p.Entries) == pageEntries {
			p.More = true
			return filepath.SkipAll
		}
		e, err := describe(path)
		p.Entries = append(p.Entries, e)
		return err
	})
	return p, err
}

func describe(path string) (entry, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return entry{}, err
	}
	e := entry{Path: path, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Nano(), Links: st.Nlink, Rdev: st.Rdev}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		e.Size = st.Size
		file, err := os.Open(path)
		if os.IsPermission(err) {
			e.Hash = "denied" // the function runs without privileges
			break
		}
		if err != nil {
			return e, err
		}
		defer file.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, file); err != nil {
			return e, err
		}
		e.Hash = hex.EncodeToString(sum.Sum(nil))
	case syscall.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return e, err
		}
		e.Target = target
	}
	e.Xattrs = xattrs(path)
	return e, nil
}

func xattrs(path string) map[string]string {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil || n <= 0 {
		return nil
	}
	out := map[string]string{}
	for _, name := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			continue
		}
		out[name] = hex.EncodeToString(value[:n])
	}
	return out
}
