// SPDX-License-Identifier: Apache-2.0

// Package mount speaks the kernel's side of the read path: a FUSE server that
// shows each image as one large file of one flat folder, and the mounting of
// EROFS file systems from such files. It knows the kernel's protocols and a
// [File] for each image; it knows no chunks, keys or tiers.
//
// It is a server of our own, of a dozen opcodes, because the process behind the
// mount must be able to die. That asks for four things:
//   - The handshake is made once, by [Mount], in the process that keeps the
//     /dev/fuse descriptor (package holder). A [Server] only ever adopts it.
//   - Node ids follow from file names alone ([NodeID]), there are no file
//     handles and no lookup counts: a successor needs no state of its
//     predecessor but which files there are.
//   - On adoption the server asks the kernel to send again what was taken and
//     not answered (FUSE_NOTIFY_RESEND), so a request is never lost. One that
//     was answered twice is ignored by the kernel.
//   - A server that stops leaves what it has not finished unanswered.
//
// What readers can count on: bytes are the file's or an error. Each request ends
// within a bound (EIO after it). An interrupted reader goes on waiting, for a
// signal must not look like a broken disk, unless it was killed: then it gets
// EINTR at once and can die.
//
// Lock order: Server.reading, then Server.mu or inflight.mu; neither of these
// is held while a file is read.
package mount
