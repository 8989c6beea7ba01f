// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"runtime"
	"time"
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

const (
	// collectAfter is how long no image is read after a start before the garbage
	// is collected.
	collectAfter = 100 * time.Millisecond
	// collectBound is how long a start's garbage waits for that: images may always
	// be read.
	collectBound = 10 * time.Second
)

// collect has garbage collected between starts, when no image is read, and not
// within one: a collection took 7 of the 24 ms of processor time that the start of
// a 5 MB program took of the loader, on both of two processors, and the chunks of a
// larger one make a small heap double several times. Marking chunks, which hold no
// pointers, costs next to nothing; what the program's packages have set up costs
// the same each time. Beside that the collector runs when the heap is at its bound.
func collect(ctx context.Context, ended <-chan struct{}, reads func() int64, gc func()) {
	for {
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
		if awaitQuiet(ctx, collectAfter, time.Now().Add(collectBound), reads) == nil {
			gc()
		}
	}
}
