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
)

// Touch is a chunk that was read, and when.
type Touch struct {
	Chunk int           // index in the manifest
	At    time.Duration // since the recording began
}

// recorder notes which chunks are read, each once, while a recording runs. A
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
	seen     map[int]struct{}
	touches  []Touch
}

// Record begins a recording. It must be ended with [Recording.Stop].
func (v *View) Record() *Recording {
	r := &v.recorder
	rec := &Recording{recorder: r, begin: time.Now(), seen: map[int]struct{}{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recordings = append(r.recordings, rec)
	r.on.Store(true)
	return rec
}

// Stop ends the recording and returns the chunks in the order in which they
// were first read. A second call returns nothing.
func (rec *Recording) Stop() []Touch {
	r := rec.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recordings = slices.DeleteFunc(r.recordings, func(other *Recording) bool { return other == rec })
	r.on.Store(len(r.recordings) > 0)
	touches := rec.touches
	rec.touches = nil
	return touches
}

func (r *recorder) touch(chunk int) {
	if !r.on.Load() {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.recordings {
		if _, known := rec.seen[chunk]; !known {
			rec.seen[chunk] = struct{}{}
			rec.touches = append(rec.touches, Touch{Chunk: chunk, At: now.Sub(rec.begin)})
		}
	}
}

// Chunk returns the name and the sealed size of chunk i; a chunk of zeros has
// the zero name. Fetching ahead needs no more.
func (v *View) Chunk(ctx context.Context, i int) (thaw.ChunkName, int64, error) {
	c, err := v.manifest.At(ctx, i)
	return c.Name, int64(c.SealedBytes), thaw.Wrap("view: chunk", err)
}

// recordKey derives the key of what is kept beside an image from the data key
// of its manifest, so that neither can stand for the other.
func recordKey(dek [32]byte) [32]byte {
	mac := hmac.New(sha256.New, dek[:])
	mac.Write([]byte("thaw/view/v1/record"))
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
