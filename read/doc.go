// SPDX-License-Identifier: Apache-2.0

// Package read names the read path; its code is in the packages below. From a
// page that the kernel misses to the chunk that holds it:
//
//	sandbox      reads a file of its root: one EROFS mount per image (loader.Client)
//	   |  page miss
//	mount        our FUSE server: one file per image (mount.Server)
//	   |  ReadAt(offset, length)
//	view         block range -> chunks by the manifest; verified, opened (view.View)
//	   |  Get(name)
//	tier         one fill per name: memory -> disk -> origin (tier.Stack, l1)
//	   |  Get(name)
//	origin       whatever stores the sealed chunks (thaw.ChunkSource)
//
// Beside it, workingset remembers which chunks a start read and in which order,
// so that the next one can have them fetched ahead.
//
// Below view everything is sealed: tier, l1 and the origin never see a key.
// Above view everything is plain: mount knows files, not chunks. The process
// that serves the mount (loader.Run) may die at any moment: a holder process
// keeps the kernel's end open, the successor asks the kernel to send again what
// was in flight, and readers only notice that it took longer.
package read
