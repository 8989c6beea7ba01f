// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"os"

	"thaw.dev/thaw"
)

// chunkState is how far a chunk has come between Put and the end of the Sync
// that publishes it.
type chunkState uint8

const (
	writing chunkState = iota // a Put is at it
	written                   // the Put has returned
	doubted                   // a sync failed: syncing the same file again may report success for bytes the kernel has dropped
	lost                      // and the bytes can't be read back: only another Put can bring them
)

// pendingChunk is a chunk that is being put or was put but is not yet
// published.
type pendingChunk struct {
	name    thaw.ChunkName
	done    chan struct{} // closed when state has left writing
	wasLost bool          // it takes the place of a lost one
	state   chunkState    // guarded by Dir.mu

	// path is where the bytes are: a temporary file or, once renamed, their
	// place. It belongs to the writing Put, then to the holder of Dir.syncing.
	path string
}

// hidesLocked reports whether a file in the chunk's place must not be believed
// in: it may have been renamed there but not be durable yet. While a Put has
// only begun, such a file is one that was published before.
func (p *pendingChunk) hidesLocked() bool { return p.state != writing || p.wasLost }

// Put implements [thaw.ChunkSink]. Of several concurrent Puts of one chunk one
// writes and the others wait for it.
func (d *Dir) Put(ctx context.Context, chunk thaw.NamedChunk) error {
	op := "store: put " + chunk.Name().String()
	if err := ctx.Err(); err != nil {
		return thaw.Wrap(op, err)
	}
	if err := CheckChunk(chunk); err != nil {
		return err
	}
	for {
		p, mine := d.reserve(chunk.Name())
		if mine {
			return diskError(op, d.write(p, chunk.Sealed()))
		}
		if p == nil {
			return nil
		}
		select { // and look again: the other may fail
		case <-p.done:
		case <-ctx.Done():
			return thaw.Wrap(op, ctx.Err())
		}
	}
}

// reserve returns a new entry that the caller must write, or the entry that
// another Put is writing, or nothing where one has been written.
func (d *Dir) reserve(name thaw.ChunkName) (p *pendingChunk, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wasLost := false
	if p := d.pending[name]; p != nil {
		switch p.state {
		case writing:
			return p, false
		case written, doubted:
			return nil, false
		case lost:
			wasLost = true
		}
	}
	p = &pendingChunk{name: name, done: make(chan struct{}), wasLost: wasLost, path: d.temp.name()}
	d.pending[name] = p
	return p, true
}

// write brings a reserved entry to its next state. An entry that was lost must
// not vanish when writing it fails: whoever put it first has not been told.
func (d *Dir) write(p *pendingChunk, sealed thaw.SealedChunk) error {
	var there bool
	var err error
	if !p.wasLost {
		there, err = d.published(p.name)
	}
	if err == nil && !there {
		err = d.disk.write(p.path, sealed)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil && !there:
		p.state = written
	case p.wasLost:
		p.state = lost
	default:
		delete(d.pending, p.name)
	}
	close(p.done)
	return err
}

// Sync implements [thaw.ChunkSink]. Concurrent Syncs take turns; one that had
// to wait usually finds its chunks published by the one before. After a
// failure nothing that was put is forgotten: the next Sync tries it again,
// writing anew what may not have reached the disk, and fails if it can't.
func (d *Dir) Sync(ctx context.Context) error {
	const op = "store: sync"
	select {
	case d.syncing <- struct{}{}:
	case <-ctx.Done():
		return thaw.Wrap(op, ctx.Err())
	}
	defer func() { <-d.syncing }()

	d.mu.Lock()
	var batch, doubts []*pendingChunk
	losses := 0
	for _, p := range d.pending {
		switch p.state {
		case writing: // its Put has not returned
		case doubted:
			doubts = append(doubts, p)
		case written:
			batch = append(batch, p)
		case lost:
			losses++
		}
	}
	d.mu.Unlock()

	for _, p := range doubts {
		if d.rewrite(p) != nil {
			losses++
			continue
		}
		batch = append(batch, p)
	}
	if err := d.commit(ctx, batch); err != nil {
		return diskError(op, err)
	}
	if losses > 0 {
		return thaw.Errorf(op, thaw.Unavailable, "%d chunks were lost by a failing disk and must be put again", losses)
	}
	return nil
}

// commit makes written chunks durable and visible: contents first, all at
// once, then the names, then the folders that hold the names. At each step a
// crash leaves whole chunks or none. Syncing the whole file system twice costs
// less than syncing each file and folder; docs/format/store.md has the figures.
func (d *Dir) commit(ctx context.Context, batch []*pendingChunk) error {
	if len(batch) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.disk.syncAll(); err != nil {
		d.setStates(batch, doubted)
		return fmt.Errorf("make %d chunks durable: %w", len(batch), err)
	}
	for _, p := range batch {
		place := d.chunkPath(p.name)
		if p.path == place {
			continue
		}
		if err := d.disk.rename(p.path, place); err != nil {
			return fmt.Errorf("publish chunk %s: %w", p.name, err)
		}
		p.path = place
	}
	if err := d.disk.syncAll(); err != nil {
		d.setStates(batch, doubted)
		return fmt.Errorf("make the names of %d chunks durable: %w", len(batch), err)
	}
	d.forget(batch)
	return nil
}

// rewrite gives a doubted chunk a new file, so that the kernel has to write its
// bytes again. Reading them back is safe because their name is checked.
func (d *Dir) rewrite(p *pendingChunk) error {
	sealed, err := readBounded(p.path)
	if err == nil && thaw.NameOf(sealed) != p.name {
		err = thaw.Errorf("store: write again "+p.name.String(), thaw.Corrupt, "the bytes have another name")
	}
	if err != nil {
		d.setStates([]*pendingChunk{p}, lost)
		return err
	}
	path := d.temp.name()
	if err := d.disk.write(path, sealed); err != nil {
		return err // still doubted, its old file is there
	}
	if p.path != d.chunkPath(p.name) {
		_ = os.Remove(p.path) // else it goes when the store is next opened
	}
	p.path = path
	d.setStates([]*pendingChunk{p}, written)
	return nil
}

func (d *Dir) setStates(batch []*pendingChunk, s chunkState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range batch {
		p.state = s
	}
}

// forget ends the hiding of what is published, except where a later Put has
// taken the entry over.
func (d *Dir) forget(batch []*pendingChunk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range batch {
		if d.pending[p.name] == p {
			delete(d.pending, p.name)
		}
	}
}
