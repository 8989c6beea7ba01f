// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// Mount mounts an empty FUSE file system on dir and makes the handshake with
// the kernel. The descriptor it returns, and each dup of it, can serve the
// mount; when the last is closed, readers get errors. The mount is seen by its
// owner's user id alone and can't be written, executed from or hold devices.
// The error is [thaw.Unavailable] where the kernel can't do what is needed.
func Mount(dir string) (Descriptor, error) {
	op := "mount FUSE on " + dir
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, thaw.Errorf(op, thaw.Unavailable, "/dev/fuse: %w (is the kernel module fuse loaded?)", err)
	}
	dev := Descriptor(fd)
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,max_read=%d", fd, os.Geteuid(), os.Getegid(), MaxReadBytes)
	if err := unix.Mount("thaw", dir, "fuse.thaw", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data); err != nil {
		_ = dev.Close()
		return -1, thaw.Wrap(op, err)
	}
	err = handshake(fd)
	if err == nil {
		err = teachNoPoll(fd, dir)
	}
	var device string
	if err == nil {
		device, err = deviceOf(dir)
	}
	if err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = dev.Close()
		return -1, thaw.Wrap(op, err)
	}
	setReadAhead(device, MaxReadBytes>>10)
	return dev, nil
}

// bdiFolder is where the kernel shows the readahead of each file system.
const bdiFolder = "/sys/class/bdi"

// setReadAhead sets how far the kernel reads ahead in the files of a device's
// file system that are opened from now on; the handshake can only lower its
// default of 128 KiB. A sysfs that can't be written leaves it at that, which
// only costs speed.
func setReadAhead(device string, kib int) {
	_ = os.WriteFile(filepath.Join(bdiFolder, device, "read_ahead_kb"), []byte(strconv.Itoa(kib)), 0)
}

// deviceOf returns the device number of what is mounted on dir, as MAJOR:MINOR,
// without asking the file system.
func deviceOf(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	points, err := mountsBelow(dir)
	if err != nil {
		return "", err
	}
	for _, p := range points {
		if p.path == dir {
			return p.device, nil
		}
	}
	return "", thaw.Errorf("", thaw.NotFound, "nothing is mounted on %s", dir)
}

// handshake answers FUSE_INIT, the first request of every mount.
func handshake(fd int) error {
	buf := make([]byte, requestBytes)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return err
	}
	req, ok := parseRequest(buf[:n])
	if !ok || req.op != opInit || len(req.body) < 16 {
		return thaw.Errorf("handshake", thaw.Internal, "the first request is not FUSE_INIT")
	}
	major, minor := order.Uint32(req.body), order.Uint32(req.body[4:])
	offered := uint64(order.Uint32(req.body[12:]))
	if offered&flagInitExt != 0 && len(req.body) >= 20 {
		offered |= uint64(order.Uint32(req.body[16:])) << 32
	}
	if major != protoMajor || minor < protoMinor || offered&flagHasResend == 0 {
		return thaw.Errorf("handshake", thaw.Unavailable, "the kernel speaks FUSE %d.%d; %d.%d with resending is needed (Linux 6.9)", major, minor, protoMajor, protoMinor)
	}
	_, err = unix.Write(fd, initAnswer(req, offered))
	return err
}

// maxBackground bounds the requests that the kernel sends before it has answers,
// of all images: what comes then waits in the order of arrival, behind whoever
// reads most. So it is more than the threads of several sandboxes ask for.
const maxBackground = 8192

// initAnswer accepts what is used of what is offered. FUSE_PASSTHROUGH is not:
// EROFS refuses files of a file system that has it ("stacked").
func initAnswer(req request, offered uint64) []byte {
	const want = flagAsyncRead | flagAsyncDIO | flagParallelDirOps | flagMaxPages | flagExplicitInvalid | flagInitExt | flagHasResend
	flags := offered & want
	b := make([]byte, outHeaderBytes, outHeaderBytes+initOutBytes)
	b = order.AppendUint32(b, protoMajor)
	b = order.AppendUint32(b, protoMinor)
	b = order.AppendUint32(b, order.Uint32(req.body[8:])) // max_readahead: as offered
	b = order.AppendUint32(b, uint32(flags))
	b = order.AppendUint16(b, maxBackground)
	b = order.AppendUint16(b, maxBackground/4*3) // from here on the kernel calls it congestion
	b = order.AppendUint32(b, 4096)              // largest write: there are none
	b = order.AppendUint32(b, 1)                 // granularity of times, ns
	b = order.AppendUint16(b, MaxReadBytes/4096)
	b = order.AppendUint16(b, 0)
	b = order.AppendUint32(b, uint32(flags>>32))
	b = b[:outHeaderBytes+initOutBytes]
	putOutHeader(b, req.unique, len(b), 0)
	return b
}

// errGone says that the file system was unmounted or the connection aborted.
var errGone = errors.New("the mount is gone")

// Descriptor is the kernel's end of a mount, an open /dev/fuse, or a dup of it.
// It is no [os.File]: Go's runtime would watch that, and would change whether it
// blocks, which all dups have in common.
type Descriptor int

// Close gives the descriptor up. With the last dup the mount dies.
func (d Descriptor) Close() error { return unix.Close(int(d)) }

// Gone reports whether the kernel has given the mount up: its connection was
// aborted, or it was unmounted. It does not wait.
func (d Descriptor) Gone() bool {
	fds := []unix.PollFd{{Fd: int32(d)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0
}

// device is an adopted descriptor with a way to be woken up.
type device struct {
	fd   int
	stop int // an eventfd: readable means stop
}

// next reads one request into buf, waiting for it. It returns zero where the
// device was told to stop. At most one goroutine is in next at a time.
func (d device) next(buf []byte) (int, error) {
	for {
		n, err := unix.Read(d.fd, buf)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EAGAIN):
			if stop, err := d.wait(); stop || err != nil {
				return 0, err
			}
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ENOENT): // ENOENT: given up before we read it
		case errors.Is(err, syscall.ENODEV):
			return 0, errGone
		default:
			return 0, err
		}
	}
}

func (d device) wait() (stop bool, err error) {
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.stop), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, syscall.EINTR) {
		return false, err
	}
	return fds[1].Revents != 0, nil
}

// send writes one whole message, its pieces in one system call. That the kernel
// no longer wants it (the request was answered before, or its waiter died) is
// no error.
func (d device) send(head []byte, pieces ...[]byte) error {
	for {
		var err error
		if len(pieces) == 0 {
			_, err = unix.Write(d.fd, head)
		} else {
			_, err = unix.Writev(d.fd, append([][]byte{head}, pieces...))
		}
		switch {
		case err == nil, errors.Is(err, syscall.ENOENT):
			return nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN):
		case errors.Is(err, syscall.ENODEV):
			return errGone
		default:
			return err
		}
	}
}
