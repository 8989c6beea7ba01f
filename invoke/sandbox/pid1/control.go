// SPDX-License-Identifier: Apache-2.0

package pid1

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
	"thaw.dev/thaw/invoke/sandbox/pid1/wire"
)

// sendTimeout bounds a send: init, which takes microseconds to read, hangs.
const sendTimeout = 30 * time.Second

// Control is the launcher's end of the socket to an init.
type Control struct{ conn *net.UnixConn }

// NewControl returns both ends. The caller closes remote once init has it.
func NewControl() (local Control, remote *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Control{}, nil, err
	}
	remote = os.NewFile(uintptr(fds[1]), "pid1 control")
	mine := os.NewFile(uintptr(fds[0]), "pid1 control")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return Control{}, nil, errors.Join(err, remote.Close())
	}
	return Control{conn: conn.(*net.UnixConn)}, remote, nil
}

// Send sends a message with descriptors, which stay the caller's.
func (c Control) Send(message []byte, files ...*os.File) error {
	if len(message) > wire.MaxBytes {
		return thaw.Errorf("pid1: send", thaw.Invalid, "arguments and environment of %d bytes, at most %d", len(message), wire.MaxBytes)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	// A wait would mean that init does not read, and it has nothing else to do.
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	for _, packet := range wire.Packets(message) {
		if _, _, err := c.conn.WriteMsgUnix(packet, rights, nil); err != nil {
			return err
		}
		rights = nil
	}
	return nil
}

// Receive waits for a report, and for the descriptors that came with it, if
// any, also where it fails. It ends with an error when ctx does.
func (c Control) Receive(ctx context.Context) (wire.Report, []*os.File, error) {
	if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
		return wire.Report{}, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, rights := make([]byte, wire.MaxReport), make([]byte, unix.CmsgSpace(4*socketCount))
	n, rn, _, _, err := c.conn.ReadMsgUnix(data, rights)
	switch {
	case ctx.Err() != nil:
		return wire.Report{}, nil, ctx.Err()
	case err != nil:
		return wire.Report{}, nil, err
	case n == 0:
		return wire.Report{}, nil, thaw.Errorf("pid1: init", thaw.Internal, "it ended unexpectedly")
	}
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "from init"))
		}
	}
	var r wire.Report
	if err != nil || !r.Decode(data[:n]) {
		return r, files, thaw.Errorf("pid1: init", thaw.Internal, "it sent what is no report")
	}
	if r.Kind == wire.Failed {
		return r, files, thaw.Errorf("pid1: init", thaw.Internal, "%s: %w", r.What, syscall.Errno(r.Errno))
	}
	return r, files, nil
}

// Close closes the socket, at which init ends. Closing none, or again, is no
// error.
func (c Control) Close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// Waits reports whether init, a child of this process, still waits for an order: it
// has neither ended nor been stopped (SIGSTOP), which a start would wait for.
func Waits(init *os.Process) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, init.Pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == 0
}
