package loader

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	hugeBytes = 2 << 20

	// maxHugeBytes bounds what is asked for at once: the heap of large caches is
	// more than that.
	maxHugeBytes = 1 << 30
)

// hugePages makes the next n bytes that the heap grows by come in pages of
// 2 MiB. A cold start fills the caches with tens of megabytes that were never
// touched, and a machine, above all a virtual one, may take longer to come up
// with a small page (14 us measured) than the loader to fill it: see
// docs/decisions. No memory is used before it is needed.
func hugePages(n int) {
	slab := make([]byte, n) // the kernel has it in no page yet
	from := -uintptr(unsafe.Pointer(&slab[0])) % hugeBytes
	_ = unix.Madvise(slab[from:n-int(hugeBytes-from)], unix.MADV_HUGEPAGE) // a kernel without them is slower
	runtime.KeepAlive(slab)
	runtime.GC() // the heap has it back
}
