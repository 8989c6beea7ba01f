// SPDX-License-Identifier: Apache-2.0

package thaw_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"thaw.dev/thaw"
)

// TestOurFaultBlamesNobody goes through every kind there is: none that comes out
// is one that a border tells as the caller's, and what may pass still may.
func TestOurFaultBlamesNobody(t *testing.T) {
	for kind := thaw.Kind(0); !strings.HasPrefix(kind.String(), "kind "); kind++ {
		want := kind
		switch kind {
		case thaw.Invalid, thaw.NotFound, thaw.Conflict, thaw.Denied, thaw.TooLarge:
			want = thaw.Lost
		}
		err := thaw.OurFault("open", thaw.Errorf("store", kind, "why"))
		if got := thaw.KindOf(err); got != want || err.Error() != "open: store: why" {
			t.Errorf("%v becomes %v: %v", kind, got, err)
		}
		if thaw.ParseKind(kind.String()) != kind {
			t.Errorf("%v does not cross a border by name", kind)
		}
	}
	if thaw.OurFault("open", nil) != nil {
		t.Error("no error became one")
	}
}

// TestShortagesMayPass: what the host lacks now is tried again; what it forbids
// is not, and is never told as the caller's lack of a right.
func TestShortagesMayPass(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EROFS, syscall.EIO} {
		err := fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "/x", Err: errno})
		if !thaw.IsShortage(err) || thaw.KindOf(err) != thaw.Unavailable {
			t.Errorf("%v is %v", errno, thaw.KindOf(err))
		}
	}
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EPERM, syscall.ENOENT, syscall.ENOTDIR} {
		if kind := thaw.KindOf(&fs.PathError{Op: "open", Path: "/x", Err: errno}); kind != thaw.Internal {
			t.Errorf("%v is %v", errno, kind)
		}
	}
}

// TestTellNamesNothingOfTheHost: errors as the operating system makes them, in
// the wrappings that the code uses, lose what they say of this host.
func TestTellNamesNothingOfTheHost(t *testing.T) {
	const marker = "/host-marker/data"
	_, open := os.Open(marker)
	link := os.Link(marker, marker+"2")
	run := exec.Command(marker).Run()
	_, look := exec.LookPath(marker + "/tool")
	address := &net.TCPAddr{IP: net.IPv4(10, 9, 8, 7), Port: 6543}
	for name, err := range map[string]error{
		"open": open, "link": link, "run": run, "look": look,
		"dial":   &net.OpError{Op: "read", Net: "tcp", Source: address, Addr: address, Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		"lookup": &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "registry.example", Server: "10.9.8.7:53"}},
	} {
		for _, wrapped := range []error{
			err,
			thaw.Wrap("store: put", err),
			thaw.Errorf("layer sha256:ab", thaw.Unavailable, "it can't be read: %w", err),
			errors.Join(thaw.Errorf("a", thaw.Internal, "b: %w", fmt.Errorf("c: %w", err)), context.Canceled),
		} {
			told := thaw.Tell(wrapped)
			if strings.Contains(told, "host-marker") || strings.Contains(told, "10.9.8.7") || told == "" {
				t.Errorf("%s: %q", name, told)
			}
		}
	}
	if told := thaw.Tell(thaw.Errorf("layer", thaw.Unavailable, "it can't be read: %w", open)); told != "layer: it can't be read: no such file or directory" {
		t.Errorf("%q", told)
	}
}
