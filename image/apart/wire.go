// SPDX-License-Identifier: Apache-2.0

package apart

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"thaw.dev/thaw"
)

// The calls of the process. Each is answered on the connection that it came by.
const (
	opBegin    = 'b' // answered with a request
	opChunk    = 'c' // a sealed chunk; answered with whether it is new, and its name
	opSync     = 's'
	opObject   = 'o' // an [object]
	opWrap     = 'w' // a [wrapping]; answered with the wrapped key
	opOpen     = 'l' // a layer's index; answered with a descriptor
	opEnd      = 'e' // a layer's index, when its descriptor has no more
	opProgress = 'p' // an [ingest.Progress]
	opResult   = 'r' // an [outcome]; the last

	answered = 'a' // and what follows is the answer
	failed   = 'f' // and what follows is a [failure]
)

const (
	headBytes = 5

	// maxObjectBytes bounds a manifest on its way, maxFrameBytes any other message.
	maxObjectBytes = 256 << 20
	maxFrameBytes  = 4 << 20

	// socketBytes lets a chunk be sent without a wait for its reader.
	socketBytes = 1 << 20
)

// object is what is to be stored under a key.
type object struct {
	Key  string
	Data []byte
}

// wrapping is a key to be wrapped.
type wrapping struct{ Key, Context []byte }

// failure is an error on its way to another process, which knows it by number
// where it was its own.
type failure struct {
	Kind   thaw.Kind
	Text   string
	Number int           // from 1; 0 is none
	Errno  syscall.Errno // that caused it, or 0
}

// conn is one end of a connection. One goroutine uses it at a time.
type conn struct {
	*net.UnixConn
	buf []byte // of what was received last
}

// newConn takes over a descriptor.
func newConn(file *os.File) (*conn, error) {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a socket of this host"), c.Close())
	}
	return &conn{UnixConn: u}, nil
}

func (c *conn) send(op byte, payload []byte) error {
	head := make([]byte, 1, headBytes)
	head[0] = op
	frame := net.Buffers{binary.BigEndian.AppendUint32(head, uint32(len(payload))), payload}
	_, err := frame.WriteTo(c.UnixConn)
	return err
}

func (c *conn) sendJSON(op byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(op, text)
}

// sendFile answers with a descriptor.
func (c *conn) sendFile(file *os.File) error {
	head := binary.BigEndian.AppendUint32([]byte{answered}, 0)
	// By what the runtime does for descriptors that it polls: Fd would make a pipe
	// blocking.
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		_, _, sent = c.WriteMsgUnix(head, unix.UnixRights(int(fd)), nil)
	})
	return errors.Join(err, sent)
}

// receive returns the next message, whose payload is valid until the next call,
// and the descriptor that came with it, if any.
func (c *conn) receive() (op byte, payload []byte, file *os.File, err error) {
	var head [headBytes]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, on, _, _, err := c.ReadMsgUnix(head[:], oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return 0, nil, nil, err
	}
	if on > 0 {
		if file, err = descriptor(oob[:on]); err != nil {
			return 0, nil, nil, err
		}
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return 0, nil, file, err
	}
	size := int(binary.BigEndian.Uint32(head[1:]))
	if size > maxFrameBytes && (head[0] != opObject || size > maxObjectBytes) {
		return 0, nil, file, unexpected("message of bytes:", size)
	}
	if cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	_, err = io.ReadFull(c, c.buf[:size])
	return head[0], c.buf[:size], file, err
}

func descriptor(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			_ = unix.SetNonblock(fd, true) // a pipe is then read with a poller, and can be closed meanwhile
			return os.NewFile(uintptr(fd), "layer"), nil
		}
	}
	return nil, unexpected("control message", len(messages))
}
