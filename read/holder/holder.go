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

func socketPath(runDir string) string { return filepath.Join(runDir, "holder.sock") }

// Config is what a holder needs.
type Config struct {
	RunDir string       // of the read path's own; made if absent
	Log    *slog.Logger // nil means slog.Default
}

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
		return thaw.Wrap(op, err)
	}
	if err := mount.Folders(MountsDir(c.RunDir)); err != nil {
		return thaw.Wrap(op, err)
	}
	dev, err := mount.Mount(FilesDir(c.RunDir))
	if err != nil {
		return thaw.Wrap(op, err)
	}
	err = serve(ctx, socketPath(c.RunDir), dev, c.Log)
	// Images first: what is mounted from the files goes before the files do.
	return thaw.Wrap(op, errors.Join(err, mount.DetachBelow(MountsDir(c.RunDir)),
		mount.Detach(FilesDir(c.RunDir)), dev.Close(), remove(PIDFile(c.RunDir))))
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// serve hands dev to whoever connects, until ctx ends.
func serve(ctx context.Context, socket string, dev *os.File, log *slog.Logger) error {
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
			return errors.Join(err, l.Close())
		}
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := hand(conn, dev); err != nil {
				log.Warn("holder: could not hand over the mount", "err", err)
			}
		})
	}
}

// handTimeout bounds a handover, either side of it; both are on this machine
// and have nothing else to do.
const handTimeout = 5 * time.Second

func hand(conn *net.UnixConn, dev *os.File) error {
	_ = conn.SetDeadline(time.Now().Add(handTimeout))
	_, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(dev.Fd())), nil)
	return err
}

// Fetch gets a dup of the mount's descriptor from the holder of that run
// directory, waiting for the holder to be there until ctx ends. The caller
// closes it.
func Fetch(ctx context.Context, runDir string) (*os.File, error) {
	for {
		dev, err := fetch(ctx, socketPath(runDir))
		if err == nil {
			return dev, nil
		}
		select {
		case <-ctx.Done():
			return nil, thaw.Errorf("fetch the mount", thaw.Unavailable, "the holder does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func fetch(ctx context.Context, socket string) (*os.File, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	conn := c.(*net.UnixConn) // of a "unix" dial it always is
	_ = conn.SetDeadline(time.Now().Add(handTimeout))
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil || len(fds) != 1 {
			continue
		}
		unix.CloseOnExec(fds[0])
		// Blocking, so that the Go runtime does not watch it: the server polls
		// it by itself.
		if err := unix.SetNonblock(fds[0], false); err != nil {
			return nil, errors.Join(err, unix.Close(fds[0]))
		}
		return os.NewFile(uintptr(fds[0]), "/dev/fuse"), nil
	}
	return nil, errors.New("no descriptor came")
}
