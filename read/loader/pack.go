// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"time"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/tier"
	"thaw.dev/thaw/read/view"
	"thaw.dev/thaw/read/workingset"
)

// maxPackBlocks bounds what is packed of a working set, 128 MiB: the blocks that
// a start reads first. Those behind are fetched in the image's own chunks.
const maxPackBlocks = 128 << 20 / thaw.BlockBytes

// packOrigin is where the chunks of a pack are stored: in objects.
type packOrigin struct {
	objects thaw.Objects
	places  map[thaw.ChunkName]workingset.Place
}

var _ thaw.ChunkSource = (*packOrigin)(nil)

// Get implements [thaw.ChunkSource]. A pack that is gone or damaged is
// [thaw.Unavailable], and no alarm: the image has what was in it.
func (o *packOrigin) Get(ctx context.Context, name thaw.ChunkName) (thaw.SealedChunk, error) {
	op := "get packed chunk " + name.String()
	at, ok := o.places[name]
	if !ok {
		return nil, thaw.Errorf(op, thaw.Internal, "it is not of this pack")
	}
	sealed, err := o.objects.ReadObject(ctx, at.Key, at.Off, at.Bytes)
	if thaw.KindOf(err) == thaw.NotFound && err != nil {
		return nil, thaw.Errorf(op, thaw.Unavailable, "its pack was replaced: %w", err)
	}
	if err != nil {
		return nil, thaw.Wrap(op, err)
	}
	if thaw.NameOf(sealed) != name {
		return nil, thaw.Errorf(op, thaw.Unavailable, "its pack is damaged and given up: %s has other bytes at %d", at.Key, at.Off)
	}
	return sealed, nil
}

// usePack has the image's reads answered from the set's pack, and returns what
// brings that nearer.
func (s *server) usePack(v *view.View, key string, set workingset.Set) *tier.Beside {
	source := s.stack.Beside(&packOrigin{objects: s.config.Objects, places: set.Places(v.ID(), key)})
	if len(set.Pack) > 0 {
		v.UsePack(set, source)
	}
	return source
}

// pack seals what the set's starts have read as chunks that hold nothing else,
// stores them, and then the set that names them. One set at a time, and in a quiet
// moment: nobody waits for it, and it costs as much as a start.
func (s *server) pack(ctx context.Context, rec *recording, set workingset.Set) error {
	deadline := time.Now().Add(quietBound)
	if err := s.beginPacking(ctx); err != nil {
		return err
	}
	defer s.endPacking()
	if err := awaitQuiet(ctx, quietFor, deadline, s.reads); err != nil {
		return err
	}
	store := &segments{objects: s.config.Objects, image: rec.view.ID(), record: rec.key, written: map[string]bool{}}
	var err error
	set.Pack, err = rec.view.Pack(ctx, set.Runs, maxPackBlocks, func(c thaw.NamedChunk) error {
		s.stack.Offer(c)
		return store.put(ctx, c)
	})
	if err != nil {
		return err
	}
	if err := store.flush(ctx); err != nil {
		return err
	}
	if err := s.putSet(ctx, rec, set); err != nil {
		return err
	}
	return s.dropPacks(ctx, workingset.PackPrefix(store.image, store.record), store.written)
}

// beginPacking waits until no set is being packed, and keeps it so until
// endPacking. It fails only where ctx ended first.
func (s *server) beginPacking(ctx context.Context) error {
	select {
	case s.packing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return thaw.Wrap("wait for a working set to be packed", context.Cause(ctx))
	}
}

func (s *server) endPacking() { <-s.packing }

const (
	// quietFor is how long no image is read before a set is packed. In a burst of
	// 100 starts (bench/burst) packs took a third of the loader's processor time.
	quietFor = time.Second
	// quietBound is how long a set waits for that, its turn included: images may
	// always be read.
	quietBound = time.Minute
)

// reads is how often images were read so far.
func (s *server) reads() int64 { return s.mount.Stats().Reads }

// awaitQuiet waits until no image is read, for so long, or until the deadline. It
// fails only where ctx ended first.
func awaitQuiet(ctx context.Context, forHow time.Duration, deadline time.Time, reads func() int64) error {
	before := int64(-1)
	for time.Now().Before(deadline) {
		now := reads()
		if now == before {
			return nil
		}
		before = now
		select {
		case <-time.After(forHow):
		case <-ctx.Done():
			return thaw.Wrap("wait for a quiet moment", context.Cause(ctx))
		}
	}
	return nil
}

// segments stores the chunks of a pack.
type segments struct {
	objects thaw.Objects
	image   thaw.ImageID
	record  string

	names   []thaw.ChunkName // of the segment that is being filled
	data    []byte
	written map[string]bool
}

func (s *segments) put(ctx context.Context, c thaw.NamedChunk) error {
	s.names = append(s.names, c.Name())
	s.data = append(s.data, c.Sealed()...)
	if len(s.names) < workingset.SegmentChunks {
		return ctx.Err()
	}
	return s.flush(ctx)
}

func (s *segments) flush(ctx context.Context) error {
	if len(s.names) == 0 {
		return nil
	}
	key := workingset.SegmentKey(s.image, s.record, s.names)
	s.written[key] = true
	err := s.objects.PutObject(ctx, key, s.data)
	s.names, s.data = s.names[:0], s.data[:0]
	return err
}

// dropPacks removes the segments of earlier packs. A start that still uses one
// reads the image instead.
func (s *server) dropPacks(ctx context.Context, prefix string, keep map[string]bool) error {
	for key, err := range s.config.Objects.ListObjects(ctx, prefix) {
		if err != nil {
			return err
		}
		if keep[key] {
			continue
		}
		if err := s.config.Objects.DeleteObject(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
