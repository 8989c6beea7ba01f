// SPDX-License-Identifier: Apache-2.0

package tmpdisk

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	fitrim       = 0xc0185879 // FITRIM (include/uapi/linux/fs.h)
	goingDown    = 0x8004587d // EXT4_IOC_SHUTDOWN (include/uapi/linux/ext4.h)
	withoutFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
)

// ioctlTrim has a file system tell its device which blocks are free; span
// points at three numbers: start, length and the least extent.
func ioctlTrim(fd int, span *uint64) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fitrim, uintptr(unsafe.Pointer(span)))
	runtime.KeepAlive(span)
	if errno != 0 {
		return errno
	}
	return nil
}

// shutdown has a file system write nothing any more. One that can't is written
// out when it ends, which takes longer.
func shutdown(fd int) {
	how := uint32(withoutFlush)
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), goingDown, uintptr(unsafe.Pointer(&how)))
	runtime.KeepAlive(&how)
}
