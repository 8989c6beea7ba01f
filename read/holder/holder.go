// SPDX-License-Identifier: Apache-2.0

// Package holder is the tiny process that keeps the FUSE mount alive while the
// process that serves it dies, is upgraded, and comes back. It mounts, keeps the
// descriptor, hands out dups of it, and takes everything down at its end. It
// knows nothing of images; it has almost no code because it must not die.
package holder

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/mount"
	"thaw.dev/thaw/read/proc"
)

// FilesDir is where the FUSE mount with a file for each image is, below the run
// directory.
func FilesDir(runDir string) string { return filepath.Join(runDir, "files") }

// MountsDir is where the images are mounted.
func MountsDir(runDir string) string { return filepath.Join(runDir, "mnt") }

// PIDFile is where the holder records itself.
func PIDFile(runDir string) string { return filepath.Join(runDir, "holder.pid") }

// Socket is where the holder hands the mount's descriptor to loaders.
func Socket(runDir string) string { return filepath.Join(runDir, "holder.sock") }

// LoaderSocket is where the loader hands it to the successor of a holder.
func LoaderSocket(runDir string) string { return filepath.Join(runDir, "device.sock") }

// Config is what a holder needs.
type Config struct {
	RunDir string // of the read path's own; made if absent
	// Adopt takes the mount over from the loader that serves it, since the
	// holder before is dead, instead of making one.
	Adopt bool
	Log   *slog.Logger // nil means slog.Default
}

// adoptTimeout bounds how long the successor of a holder waits for a loader
// that has the mount's descriptor. It hands it out from its first moment on.
const adoptTimeout = time.Second

// Run holds the mount until ctx ends or the parent process is gone (see
// proc.Lifeline), then detaches all mounts below the run directory. A clean end
// is no error.
func Run(ctx context.Context, c Config) error {
	const op = "holder"
	if c.Log == nil {
		c.Log = slog.Default()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := proc.Lifeline()
	go func() { // ends with Run
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	for _, dir := range []string{FilesDir(c.RunDir), MountsDir(c.RunDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return thaw.Wrap(op, err)
		}
	}
	if err := proc.Record(PIDFile(c.RunDir)); err != nil {
		c.Log.Warn("if this process outlives the server by a bug, the next server does not find it", "err", err)
	}
	dev, err := c.device(ctx)
	if err != nil {
		return thaw.Wrap(op, err)
	}
	err = Hand(ctx, Socket(c.RunDir), dev, c.Log)
	// Images first: what is mounted from the files goes before the files do.
	return thaw.Wrap(op, errors.Join(err, mount.DetachBelow(MountsDir(c.RunDir)),
		mount.Detach(FilesDir(c.RunDir)), dev.Close(), remove(PIDFile(c.RunDir))))
}

// device makes the mount, or adopts it.
func (c Config) device(ctx context.Context) (mount.Descriptor, error) {
	if c.Adopt {
		ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
		defer cancel()
		return Fetch(ctx, LoaderSocket(c.RunDir))
	}
	if err := mount.Folders(MountsDir(c.RunDir)); err != nil {
		return -1, err
	}
	return mount.Mount(FilesDir(c.RunDir))
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// acceptPause is the pause after a connection could not be accepted, for want
// of descriptors for example: whoever hands out the mount must not die of it.
const acceptPause = 100 * time.Millisecond

// Hand hands dups of dev to whoever connects to the socket, until ctx ends.
func Hand(ctx context.Context, socket string, dev mount.Descriptor, log *slog.Logger) error {
	if err := remove(socket); err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			log.Warn("the mount can't be handed over now", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := hand(conn, dev); err != nil {
				log.Warn("the mount could not be handed over", "err", err)
			}
		})
	}
}

// handTimeout bounds a handover, either side of it; both are on this machine
// and have nothing else to do.
const handTimeout = 5 * time.Second

func hand(conn *net.UnixConn, dev mount.Descriptor) error {
	_ = conn.SetDeadline(time.Now().Add(handTimeout))
	_, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(dev)), nil)
	return err
}

// ErrGone says that the kernel has given the mount up, by an abort or since
// nobody held it: whatever is mounted from its files can't be read any more.
var ErrGone = thaw.Errorf("", thaw.Unavailable, "the mount of the images' files is gone")

// Check asks the holder of that run directory for the mount and looks whether
// it lives. [ErrGone] is certain; any other error says that the holder did not
// answer. It reads nothing of the mount, so it needs no loader.
func Check(ctx context.Context, runDir string) error {
	dev, err := fetch(ctx, Socket(runDir))
	if err != nil {
		return thaw.Errorf("check the mount", thaw.Unavailable, "the holder does not answer: %w", err)
	}
	defer dev.Close()
	if dev.Gone() || !mount.IsMounted(FilesDir(runDir)) {
		return ErrGone
	}
	return nil
}

// Fetch gets a dup of the mount's descriptor from who hands it out on a socket
// (see [Hand]), waiting for that until ctx ends. The caller closes it.
func Fetch(ctx context.Context, socket string) (mount.Descriptor, error) {
	for {
		dev, err := fetch(ctx, socket)
		if err == nil {
			return dev, nil
		}
		select {
		case <-ctx.Done():
			return -1, thaw.Errorf("fetch the mount", thaw.Unavailable, "nobody hands it out: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func fetch(ctx context.Context, socket string) (mount.Descriptor, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return -1, err
	}
	defer c.Close()
	conn := c.(*net.UnixConn) // of a "unix" dial it always is
	deadline := time.Now().Add(handTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = conn.SetDeadline(deadline)
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil || len(fds) != 1 {
			continue
		}
		unix.CloseOnExec(fds[0])
		return mount.Descriptor(fds[0]), nil
	}
	return -1, errors.New("no descriptor came")
}
