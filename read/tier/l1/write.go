// SPDX-License-Identifier: Apache-2.0

package l1

import (
	"os"
	"path/filepath"
	"time"

	"thaw.dev/thaw"
)

// saveEvery is how often the eviction order is saved while it changes. Losing
// it costs only how well the first evictions after a restart choose.
const saveEvery = time.Minute

// complainEvery is the least time between two log lines on failed writes.
const complainEvery = 10 * time.Second

// After a write that found the disk full the cache gives back one part in
// shrinkShare of what it holds, and grows again by growFactor bytes for each
// byte it could write: it looks for the room there is without keeping the disk
// full.
const (
	shrinkShare = 10
	growFactor  = 2
)

// write is the writer: it alone makes files, and it deletes the evicted ones.
func (d *Disk) write() {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-save.C:
			if err := d.saveOrder(); err != nil {
				d.writeErrors.Add(1)
				d.log.Warn("L1: can't save the eviction order", "err", err)
			}
		case <-d.wake:
			d.rest()
			for d.writeNext() {
				select {
				case <-d.stop:
					return
				default:
				}
			}
		}
	}
}

// rest lets a start that brings chunks have the processor and the disk for
// itself, unless they fill half of the queue.
func (d *Disk) rest() {
	timer := time.NewTimer(d.writeAfter)
	defer timer.Stop()
	select {
	case <-d.stop:
	case <-d.pressed:
	case <-timer.C:
	}
}

// writeNext deletes what was evicted, writes one chunk, and reports whether
// there was one. The chunk stays in waiting, where readers find it, until its
// file is there.
func (d *Disk) writeNext() bool {
	d.mu.Lock()
	doomed := d.doomed
	d.doomed = nil
	epoch := d.epoch
	var name thaw.ChunkName
	var sealed thaw.SealedChunk
	more := len(d.queue) > 0
	if more {
		name = d.queue[0]
		d.queue = d.queue[1:]
		sealed = d.waiting[name]
	}
	d.mu.Unlock()

	d.remove(doomed)
	if !more {
		return false
	}
	f := chunkFile{name, int64(len(sealed))}
	err := d.create(f, sealed)
	d.finish(f, epoch, err)
	return true
}

// create makes the chunk's file, whole or not at all as long as nothing
// crashes. There is no fsync: whatever a crash leaves is verified before use.
func (d *Disk) create(f chunkFile, sealed thaw.SealedChunk) error {
	tmp := filepath.Join(d.tmpDir(), "chunk")
	path := d.path(f)
	err := os.WriteFile(tmp, sealed, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if os.IsNotExist(err) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// complain logs failed writes, now and then: a full disk fails many. The line
// tells of those since the last one.
func (d *Disk) complain(now time.Time, err error) {
	d.untold++
	if now.Sub(d.complained) < complainEvery {
		return
	}
	d.log.Warn("L1: can't write chunks; they stay uncached", "err", err, "failed", d.untold)
	d.complained, d.untold = now, 0
}

// finish enters a file that was written, or not, into the books.
func (d *Disk) finish(f chunkFile, epoch int, err error) {
	d.mu.Lock()
	void := d.epoch != epoch
	if !void {
		delete(d.waiting, f.name)
		d.bytes -= f.size
		d.changed = true
	}
	kept := false
	switch {
	case err == nil && !void:
		if c := d.files.Capacity(); c < d.bound {
			d.files.SetCapacity(min(d.bound, c+growFactor*blockCost(f.size)))
		}
		kept = d.files.Add(f.name, f.size, blockCost(f.size))
	case isNoSpace(err):
		d.noSpace.Add(1)
		d.files.SetCapacity(d.files.Cost() - d.files.Cost()/shrinkShare)
		signal(d.wake) // to delete what this evicted
	}
	d.mu.Unlock()

	switch {
	case err != nil:
		d.writeErrors.Add(1)
		d.complain(time.Now(), err)
	case kept:
		d.written.Add(1)
	default: // dropped meanwhile, or larger than the whole cache
		_ = os.Remove(d.path(f))
	}
}
