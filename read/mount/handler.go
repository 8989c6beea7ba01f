// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"context"
	"syscall"
	"time"

	"thaw.dev/thaw"
)

// The longest time the kernel can ask for, in seconds: what is here never
// changes. Names are looked up anew each time, since files come and go.
const attrSeconds = 1 << 31

// handler takes one request after the other.
type handler struct {
	s *Server
	// out holds an answer: its header, and the payload unless that is what was
	// read, which goes out from where it is.
	out  []byte
	data [][]byte
}

// take waits for a request. Requests that may take long are entered as in
// flight before anybody else can take the next, which may be their interrupt.
func (h *handler) take(ctx context.Context) (request, *work, error) {
	h.s.reading.Lock()
	defer h.s.reading.Unlock()
	for {
		n, err := h.s.dev.next(h.s.in)
		if err != nil {
			return request{}, nil, err
		}
		if n == 0 || ctx.Err() != nil {
			return request{}, nil, errStopped
		}
		req, ok := parseRequest(h.s.in[:n])
		if !ok {
			return request{}, nil, thaw.Errorf("take a request", thaw.Internal, "%d bytes that are no request", n)
		}
		h.s.stats.requests.Add(1)
		switch req.op {
		case opForget, opBatchForget: // there are no lookup counts; the kernel wants no answer
		case opInterrupt:
			if len(req.body) >= 8 {
				h.s.inflight.interrupt(order.Uint64(req.body))
			}
		case opRead, opLookup, opGetattr, opOpen:
			req.body = bytes.Clone(req.body) // the buffer is the next request's
			return req, h.s.inflight.begin(ctx, req), nil
		default:
			req.body = bytes.Clone(req.body)
			return req, nil, nil
		}
	}
}

// answer handles a request. work is nil where nothing is waited for.
func (h *handler) answer(req request, w *work) {
	h.data = nil
	if w == nil {
		n, err := h.dispatch(context.Background(), req) // it does not wait
		h.reply(req, n, err)
		return
	}
	begin := time.Now()
	ctx, done, err := w.ctx, func() {}, error(nil)
	n, pace := 0, h.pacer(req)
	if pace != nil {
		done, err = pace(ctx)
	}
	if err == nil {
		var stop context.CancelFunc
		ctx, stop = h.s.inflight.time(w, h.s.opts.Timeout)
		defer stop()
		n, err = h.dispatch(ctx, req)
		done()
	}
	stopped := w.stopped()
	err = w.verdict(ctx, err)
	h.s.inflight.end(w)
	if err != nil && stopped {
		return // a successor will be asked again
	}
	if req.op == opRead {
		h.s.countRead(req, n, err, time.Since(begin))
	}
	h.reply(req, n, err)
}

// pacer is what a request has to wait for before its time begins; nil for
// nothing.
func (h *handler) pacer(req request) func(context.Context) (func(), error) {
	if req.op != opRead {
		return nil
	}
	node, err := h.s.files.byNode(req.node)
	if err != nil {
		return nil
	}
	paced, ok := node.file.(Paced)
	off, size, err := readRange(req)
	if !ok || err != nil {
		return nil
	}
	return func(ctx context.Context) (func(), error) { return paced.Pace(ctx, off, size) }
}

// readRange is what a read asks for.
func readRange(req request) (off int64, size int, err error) {
	if len(req.body) < 20 {
		return 0, 0, thaw.Errorf("read", thaw.Invalid, "a short request")
	}
	from, n := order.Uint64(req.body[8:]), order.Uint32(req.body[16:])
	if from > 1<<62 || n > MaxReadBytes {
		return 0, 0, thaw.Errorf("read", thaw.Invalid, "%d bytes at %d", n, from)
	}
	return int64(from), int(n), nil
}

// dispatch returns the length of the answer's payload, which is in h.data if it
// was read, else in h.out.
func (h *handler) dispatch(ctx context.Context, req request) (int, error) {
	switch req.op {
	case opRead:
		return h.read(ctx, req)
	case opLookup:
		return h.lookup(ctx, req)
	case opGetattr:
		return h.getattr(ctx, req)
	case opOpen:
		return h.open(req)
	case opOpendir:
		return h.opendir(req)
	case opReaddir:
		return h.readdir(req)
	case opStatfs:
		return h.statfs()
	case opRelease, opReleasedir, opDestroy:
		return 0, nil
	}
	return 0, syscall.ENOSYS // the kernel does without it from then on
}

// room returns n bytes for the payload of the answer, of unknown content.
func (h *handler) room(n int) []byte {
	if len(h.out) < outHeaderBytes+n {
		h.out = make([]byte, outHeaderBytes+n)
	}
	return h.out[outHeaderBytes : outHeaderBytes+n]
}

func (h *handler) put(b []byte) int { return copy(h.room(len(b)), b) }

func (h *handler) reply(req request, n int, err error) {
	errno := errnoOf(err)
	if errno != 0 {
		n, h.data = 0, nil
	}
	head := outHeaderBytes
	if h.data == nil {
		head += n
	}
	h.room(head - outHeaderBytes)
	msg := h.out[:head]
	putOutHeader(msg, req.unique, outHeaderBytes+n, errno)
	if err := h.s.dev.send(msg, h.data...); err != nil {
		h.s.fail(err)
	}
}

func (h *handler) read(ctx context.Context, req request) (int, error) {
	off, size, err := readRange(req)
	if err != nil {
		return 0, err
	}
	n, err := h.s.files.byNode(req.node)
	if err != nil {
		return 0, err
	}
	pieces, err := n.file.Read(ctx, off, size)
	if err != nil {
		return 0, err
	}
	length := 0
	for _, p := range pieces {
		length += len(p)
	}
	if length > size || len(pieces) > MaxPieces {
		return 0, thaw.Errorf("read", thaw.Internal, "%d bytes in %d pieces for %d", length, len(pieces), size)
	}
	h.data = pieces
	return length, nil
}

func (h *handler) lookup(ctx context.Context, req request) (int, error) {
	if req.node != rootNode {
		return 0, syscall.ENOTDIR
	}
	n, err := h.s.files.byName(string(bytes.TrimRight(req.body, "\x00")))
	if err != nil {
		return 0, err
	}
	a, err := n.attr(ctx)
	if err != nil {
		return 0, err
	}
	return h.putEntry(a), nil
}

func (h *handler) putEntry(a attr) int {
	b := make([]byte, 0, entryHeadBytes+attrBytes)
	b = order.AppendUint64(b, a.node)
	b = order.AppendUint64(b, 0)           // generation: a node id never means another file
	b = order.AppendUint64(b, 0)           // for how long the name is valid
	b = order.AppendUint64(b, attrSeconds) // and the attributes
	b = order.AppendUint64(b, 0)
	return h.put(a.append(b))
}

func (h *handler) getattr(ctx context.Context, req request) (int, error) {
	a := attr{node: rootNode, mode: syscall.S_IFDIR | 0o500, link: 2}
	if req.node != rootNode {
		n, err := h.s.files.byNode(req.node)
		if err != nil {
			return 0, err
		}
		if a, err = n.attr(ctx); err != nil {
			return 0, err
		}
	}
	b := order.AppendUint64(make([]byte, 0, 16+attrBytes), attrSeconds)
	b = order.AppendUint64(b, 0)
	return h.put(a.append(b)), nil
}

// open answers that the kernel may keep what it has cached of the file: it
// never changes.
func (h *handler) open(req request) (int, error) {
	if _, err := h.s.files.byNode(req.node); err != nil {
		return 0, err
	}
	if len(req.body) < 4 || order.Uint32(req.body)&syscall.O_ACCMODE != syscall.O_RDONLY {
		return 0, syscall.EROFS
	}
	return h.opened(openKeepCache), nil
}

func (h *handler) opendir(req request) (int, error) {
	if req.node != rootNode {
		return 0, syscall.ENOTDIR
	}
	return h.opened(0), nil
}

func (h *handler) opened(flags uint32) int {
	b := order.AppendUint64(make([]byte, 0, 16), 0) // no handle: the node says all
	b = order.AppendUint32(b, flags)
	return h.put(order.AppendUint32(b, 0))
}

func (h *handler) readdir(req request) (int, error) {
	if len(req.body) < 20 {
		return 0, thaw.Errorf("read the folder", thaw.Invalid, "a short request")
	}
	off, size := order.Uint64(req.body[8:]), int(order.Uint32(req.body[16:]))
	b := make([]byte, 0, min(size, MaxReadBytes))
	for i, e := range h.s.files.list() {
		if uint64(i) < off {
			continue
		}
		next := appendDirent(b, e.id, uint64(i)+1, e.mode, e.name)
		if len(next) > size {
			break
		}
		b = next
	}
	return h.put(b), nil
}

func (h *handler) statfs() (int, error) {
	b := make([]byte, 80)
	order.PutUint32(b[40:], 4096) // block size
	order.PutUint32(b[44:], 255)  // longest name
	order.PutUint32(b[48:], 4096) // fragment size
	return h.put(b), nil
}
