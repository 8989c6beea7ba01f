// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/workingset"
)

// recorder notes which blocks are read, each once, while a recording runs. A
// read without one costs an atomic load.
type recorder struct {
	on atomic.Bool

	mu sync.Mutex // guards what is below
	// recordings are those that run: two sandboxes may start on one image.
	recordings []*Recording
}

// Recording is a running note of what is read of an image. All reads count,
// whichever sandbox made them: the image's page cache is shared, so what one
// start has read another will not read.
type Recording struct {
	recorder *recorder
	begin    time.Time
	seen     []uint64 // a bit for each block of the image
	runs     []workingset.Run
}

// Record begins a recording. It must be ended with [Recording.Stop].
func (v *View) Record() *Recording {
	r := &v.recorder
	blocks := (v.Size() + thaw.BlockBytes - 1) / thaw.BlockBytes
	rec := &Recording{recorder: r, begin: time.Now(), seen: make([]uint64, (blocks+63)/64)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recordings = append(r.recordings, rec)
	r.on.Store(true)
	return rec
}

// Stop ends the recording and returns the blocks in the order in which they
// were first read, their times after the recording's begin. A second call returns nothing.
func (rec *Recording) Stop() []workingset.Run {
	r := rec.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recordings = slices.DeleteFunc(r.recordings, func(other *Recording) bool { return other == rec })
	r.on.Store(len(r.recordings) > 0)
	runs := rec.runs
	rec.runs = nil
	return runs
}

// touch notes a read of blocks, none of which is a hole.
func (r *recorder) touch(block, blocks uint32) {
	if !r.on.Load() {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.recordings {
		rec.noteLocked(block, blocks, now.Sub(rec.begin))
	}
}

func (rec *Recording) noteLocked(block, blocks uint32, at time.Duration) {
	for b := block; b < block+blocks; b++ {
		word, bit := b/64, uint64(1)<<(b%64)
		if rec.seen[word]&bit != 0 {
			continue
		}
		rec.seen[word] |= bit
		if n := len(rec.runs); n > 0 && rec.runs[n-1].Block+rec.runs[n-1].Blocks == b {
			rec.runs[n-1].Blocks++
			continue
		}
		rec.runs = append(rec.runs, workingset.Run{Block: b, Blocks: 1, At: at})
	}
}

// ChunkAt returns the chunk that holds a block of the image: its index, its
// name (zero for zeros) and the block behind its last. Fetching ahead needs no
// more.
func (v *View) ChunkAt(ctx context.Context, block uint32) (index int, name thaw.ChunkName, end uint32, err error) {
	c, index, err := v.manifest.ByBlock(ctx, block)
	return index, c.Name, c.Block + c.Blocks, thaw.Wrap("view: chunk", err)
}

// derive derives a key for a use from the data key of an image's manifest, so
// that none can stand for another.
func derive(dek [32]byte, use string) [32]byte {
	mac := hmac.New(sha256.New, dek[:])
	mac.Write([]byte("thaw/view/v1/" + use))
	return [32]byte(mac.Sum(nil))
}

// recordNonceBytes is the length of the number that begins a sealed record.
// Records are few, some a function's version, so random numbers of 64 bits
// don't meet: at 2^20 records of one image the odds are below 2^-24.
const recordNonceBytes = 8

// SealRecord seals what is kept beside the image about its use, such as a
// working set: only who may read the image can read or make it. about names
// what the record is for and is authenticated with it.
func (v *View) SealRecord(plain []byte, about string) []byte {
	var nonce [recordNonceBytes]byte
	_, _ = rand.Read(nonce[:]) // never fails
	sealed := v.records.Seal(binary.BigEndian.Uint64(nonce[:]), plain, v.recordContext(about))
	return append(nonce[:], sealed...)
}

// OpenRecord is the inverse of [View.SealRecord]; anything that it did not make
// for this image and for about is [thaw.Corrupt].
func (v *View) OpenRecord(sealed []byte, about string) ([]byte, error) {
	if len(sealed) < recordNonceBytes {
		return nil, thaw.Errorf("view: open record", thaw.Corrupt, "%d bytes are too few", len(sealed))
	}
	number := binary.BigEndian.Uint64(sealed[:recordNonceBytes])
	plain, err := v.records.Open(number, sealed[recordNonceBytes:], v.recordContext(about))
	return plain, thaw.Wrap("view: open record", err)
}

func (v *View) recordContext(about string) []byte { return append(v.id[:], about...) }
