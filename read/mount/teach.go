// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// teachFile is a file that exists only while teachNoPoll runs.
const teachFile = ".poll"

// teachNoPoll makes the kernel learn that this file system does not poll, by
// polling a file of it once. Otherwise the first program that asks would have
// to wait for a server; and a Go program asks as soon as it opens a file, in a
// system call during which its garbage collector can't run: with the server
// dead, or in the same process, all of it would stand still.
func teachNoPoll(fd int, dir string) error {
	asked := make(chan error, 1)
	go func() { asked <- pollOnce(filepath.Join(dir, teachFile)) }() // ends with the last answer below, or with fd
	h, buffer := handler{s: &Server{dev: device{fd: fd}}}, make([]byte, requestBytes)
	for done := false; !done; {
		n, err := unix.Read(fd, buffer)
		if errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		req, ok := parseRequest(buffer[:n])
		if !ok {
			return thaw.Errorf("teach", thaw.Internal, "%d bytes that are no request", n)
		}
		n, err = h.teach(req)
		h.reply(req, n, err)
		done = req.op == opRelease
	}
	return <-asked
}

// teach answers what the kernel asks on the way of pollOnce.
func (h *handler) teach(req request) (int, error) {
	a := attr{node: rootNode + 1, mode: syscall.S_IFREG | 0o400, link: 1}
	switch req.op {
	case opLookup:
		return h.putEntry(a), nil
	case opGetattr:
		return h.getattr(context.Background(), request{node: rootNode})
	case opOpen:
		return h.opened(openDirectIO), nil
	case opRelease:
		return 0, nil
	}
	return 0, syscall.ENOSYS
}

func pollOnce(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err
}
