// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"encoding/binary"
	"syscall"
)

// The parts of the protocol that are used here; names and numbers are those of
// include/uapi/linux/fuse.h, version 7.40.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opOpen        = 14
	opRead        = 15
	opStatfs      = 17
	opRelease     = 18
	opFlush       = 25
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42

	notifyResend = 7 // as the error field of an unasked message

	protoMajor = 7
	protoMinor = 40 // the first with FUSE_HAS_RESEND

	flagAsyncRead       = 1 << 0
	flagAsyncDIO        = 1 << 15
	flagParallelDirOps  = 1 << 18
	flagMaxPages        = 1 << 22
	flagExplicitInvalid = 1 << 25 // an mtime can't change here; never drop cached pages for it
	flagInitExt         = 1 << 30
	flagHasResend       = 1 << 39

	openDirectIO  = 1 << 0
	openKeepCache = 1 << 1

	rootNode = 1

	inHeaderBytes  = 40
	outHeaderBytes = 16
	attrBytes      = 88
	entryHeadBytes = 40
	initOutBytes   = 64

	// requestBytes is room for any request: the kernel demands 8 KiB, or the
	// largest write it may send, which is 4 KiB and some headers here.
	requestBytes = 16 << 10
)

// MaxReadBytes is the largest read the kernel sends: 256 pages, the default of
// fs.fuse.max_pages_limit.
const MaxReadBytes = 1 << 20

// MaxPieces is the most pieces that the answer of a read can have: what one
// writev takes, UIO_MAXIOV, less the header.
const MaxPieces = 1023

var order = binary.NativeEndian

// request is one message from the kernel. body is valid until the buffer that
// it came in is used again.
type request struct {
	op     uint32
	unique uint64
	node   uint64
	pid    uint32 // the thread that waits, as this mount's namespace sees it; 0 if none
	body   []byte
}

func parseRequest(b []byte) (request, bool) {
	if len(b) < inHeaderBytes || int(order.Uint32(b)) != len(b) {
		return request{}, false
	}
	return request{
		op:     order.Uint32(b[4:]),
		unique: order.Uint64(b[8:]),
		node:   order.Uint64(b[16:]),
		pid:    order.Uint32(b[32:]),
		body:   b[inHeaderBytes:],
	}, true
}

// putOutHeader writes the header of an answer of so many bytes, itself included.
func putOutHeader(b []byte, unique uint64, size int, errno syscall.Errno) {
	order.PutUint32(b, uint32(size))
	order.PutUint32(b[4:], uint32(-int32(errno)))
	order.PutUint64(b[8:], unique)
}

// attr is what stat shows of a node.
type attr struct {
	node uint64
	size int64
	mode uint32
	link uint32
}

func (a attr) append(b []byte) []byte {
	b = order.AppendUint64(b, a.node)
	b = order.AppendUint64(b, uint64(a.size))
	b = order.AppendUint64(b, uint64(a.size+511)/512)
	b = append(b, make([]byte, 3*8+3*4)...) // times: an image has none
	b = order.AppendUint32(b, a.mode)
	b = order.AppendUint32(b, a.link)
	b = append(b, make([]byte, 3*4)...) // owner root, no device
	b = order.AppendUint32(b, 4096)
	return order.AppendUint32(b, 0)
}

// appendDirent appends a directory entry; next is the offset of the one after.
func appendDirent(b []byte, node, next uint64, mode uint32, name string) []byte {
	b = order.AppendUint64(b, node)
	b = order.AppendUint64(b, next)
	b = order.AppendUint32(b, uint32(len(name)))
	b = order.AppendUint32(b, mode>>12)
	b = append(b, name...)
	return append(b, make([]byte, -len(name)&7)...)
}
