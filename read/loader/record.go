// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw.dev/thaw"
	"thaw.dev/thaw/read/view"
	"thaw.dev/thaw/read/workingset"
)

// recordings are the starts being recorded, by the token that their client was
// given. A token does not outlive the loader: a start that a successor finds
// half done is not recorded.
type recordings struct {
	mu   sync.Mutex
	last int
	live map[int]*recording
}

type recording struct {
	view   *view.View
	key    string
	record *view.Recording
	watch  *startWatch
}

// maxRecordings bounds the starts recorded at a time; those beyond are not.
const maxRecordings = 256

func (r *recordings) begin(v *view.View, key string, watch *startWatch) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.live) >= maxRecordings {
		return 0
	}
	if r.live == nil {
		r.live = map[int]*recording{}
	}
	r.last++
	r.live[r.last] = &recording{view: v, key: key, record: v.Record(), watch: watch}
	return r.last
}

func (r *recordings) take(token int) *recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.live[token]
	delete(r.live, token)
	return rec
}

// finish merges a recorded start into the working set of its version. What was
// merged is packed afterwards, apart from who ended the start.
func (s *server) finish(ctx context.Context, rec *recording) error {
	runs := rec.record.Stop()
	if len(runs) == 0 {
		return nil
	}
	old, err := s.workingSet(ctx, rec.view, rec.key)
	if kind := thaw.KindOf(err); err != nil && kind != thaw.NotFound && kind != thaw.Corrupt {
		return err
	}
	set := old.Merge(runs)
	known := old.Blocks()
	if grown := set.Blocks() - known; known > 0 && grown*newPart < known && len(old.Pack) > 0 && !rec.view.LostPack() {
		return nil // it would say the same
	}
	if len(old.Pack) == 0 { // better than nothing until the pack is there
		if err := s.putSet(ctx, rec, set); err != nil {
			return err
		}
	}
	s.fetches.Go(func() error {
		if err := s.pack(s.life, rec, set); err != nil && s.life.Err() == nil {
			s.config.Log.Warn("a working set was not packed", "image", rec.view.ID(), "err", err)
		}
		return nil
	})
	return nil
}

func (s *server) putSet(ctx context.Context, rec *recording, set workingset.Set) error {
	sealed := rec.view.SealRecord(set.Encode(), rec.key)
	return s.config.Objects.PutObject(ctx, workingset.Key(rec.view.ID(), rec.key), sealed)
}

// newPart is the part of a working set by which a start must change it to be
// worth a write: a cold start should not cost the store a request each.
const newPart = 64

// maxRecordBytes bounds a stored working set: a set of all chunks of the
// largest image is below it.
const maxRecordBytes = 16 << 20

func (s *server) workingSet(ctx context.Context, v *view.View, key string) (workingset.Set, error) {
	sealed, err := s.sealedSet(ctx, v.ID(), key)
	if err != nil {
		return workingset.Set{}, err
	}
	return openSet(v, key, sealed)
}

func (s *server) sealedSet(ctx context.Context, image thaw.ImageID, key string) ([]byte, error) {
	return s.config.Objects.ReadObject(ctx, workingset.Key(image, key), 0, maxRecordBytes)
}

func openSet(v *view.View, key string, sealed []byte) (workingset.Set, error) {
	plain, err := v.OpenRecord(sealed, key)
	if err != nil {
		return workingset.Set{}, err
	}
	return workingset.Decode(plain, v.Size())
}

// setTimeout bounds how long a start waits for its working set, which is only of
// use: in an outage of the origin it goes on without.
const setTimeout = 2 * time.Second

// readSet begins to read the sealed working set of a start, and returns what
// waits for it.
func (s *server) readSet(ctx context.Context, in imageRequest) (sealed func() ([]byte, error)) {
	if in.Record == "" {
		return nil
	}
	var group errgroup.Group
	var read []byte
	group.Go(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, setTimeout)
		defer cancel()
		read, err = s.sealedSet(ctx, in.Image, in.Record)
		return err
	})
	return func() ([]byte, error) {
		err := group.Wait()
		return read, err
	}
}

// ahead begins to bring nearer what earlier starts have read, and returns it: a
// working set without a pack, encoded. Of a version's first start nothing is
// known, and it is empty.
func (s *server) ahead(v *view.View, key string, known func() ([]byte, error), watch *startWatch) ([]byte, error) {
	sealed, err := known()
	if err != nil && thaw.KindOf(err) == thaw.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	set, err := openSet(v, key, sealed)
	if err != nil {
		return nil, thaw.Wrap("the working set can't be used", err)
	}
	watch.aheadBegins(set)
	packs := s.usePack(v, key, set)
	s.fetches.Go(func() error {
		_ = set.Fetch(watch.ahead.In(s.life), v, s.stack, packs) // what fails is left to the read that needs it
		watch.aheadEnds()
		return nil
	})
	return workingset.Set{Starts: set.Starts, Runs: set.Runs}.Encode(), nil
}

// touched returns the chunks that starts of the image have read, whichever
// function's, ascending.
func (s *server) touched(ctx context.Context, v *view.View) ([]int, error) {
	chunks := []int{}
	prefix := workingset.Prefix(v.ID())
	for key, err := range s.config.Objects.ListObjects(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		set, err := s.workingSet(ctx, v, strings.TrimPrefix(key, prefix))
		if err != nil {
			return nil, err
		}
		err = set.Each(ctx, v, func(index int, name thaw.ChunkName) {
			if !name.IsZero() {
				chunks = append(chunks, index)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(chunks)
	return slices.Compact(chunks), nil
}
