// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"syscall"

	"thaw.dev/thaw"
)

// errnoOf maps a failure to what the kernel is told; zero for none. It is the
// only place that does. Whatever is not the caller's own doing is EIO: a reader
// of a file has no better use for the rest.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(syscall.Errno); ok { //nolint:errorlint // this package's own; one that a file's error wraps is not meant for the kernel
		return e
	}
	switch thaw.KindOf(err) {
	case thaw.Invalid:
		return syscall.EINVAL
	case thaw.NotFound:
		return syscall.ENOENT
	case thaw.Denied:
		return syscall.EACCES
	case thaw.Canceled:
		return syscall.EINTR
	case thaw.Internal, thaw.Conflict, thaw.Corrupt, thaw.TooLarge, thaw.Throttled, thaw.Unavailable, thaw.Lost:
		return syscall.EIO
	}
	return syscall.EIO
}
