package loader

import (
	"context"
	"slices"
	"strings"
	"sync"

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
}

// maxRecordings bounds the starts recorded at a time; those beyond are not.
const maxRecordings = 256

func (r *recordings) begin(v *view.View, key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.live) >= maxRecordings {
		return 0
	}
	if r.live == nil {
		r.live = map[int]*recording{}
	}
	r.last++
	r.live[r.last] = &recording{view: v, key: key, record: v.Record()}
	return r.last
}

func (r *recordings) take(token int) *recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.live[token]
	delete(r.live, token)
	return rec
}

// finish merges a recorded start into the working set of its version.
func (s *server) finish(ctx context.Context, rec *recording) error {
	touches := rec.record.Stop()
	if len(touches) == 0 {
		return nil
	}
	items := make([]workingset.Item, len(touches))
	for i, t := range touches {
		items[i] = workingset.Item{Chunk: t.Chunk, At: t.At}
	}
	set, err := s.workingSet(ctx, rec.view, rec.key)
	if kind := thaw.KindOf(err); err != nil && kind != thaw.NotFound && kind != thaw.Corrupt {
		return err
	}
	set = set.Merge(items)
	sealed := rec.view.SealRecord(set.Encode(), rec.key)
	return s.config.Objects.PutObject(ctx, workingset.Key(rec.view.ID(), rec.key), sealed)
}

// maxRecordBytes bounds a stored working set: a set of all chunks of the
// largest image is below it.
const maxRecordBytes = 16 << 20

func (s *server) workingSet(ctx context.Context, v *view.View, key string) (workingset.Set, error) {
	sealed, err := s.config.Objects.ReadObject(ctx, workingset.Key(v.ID(), key), 0, maxRecordBytes)
	if err != nil {
		return workingset.Set{}, err
	}
	plain, err := v.OpenRecord(sealed, key)
	if err != nil {
		return workingset.Set{}, err
	}
	return workingset.Decode(plain, v.Chunks())
}

// fetchAhead begins to fetch what earlier starts have read.
func (s *server) fetchAhead(v *view.View, key string) {
	s.ahead.Go(func() error {
		set, err := s.workingSet(s.life, v, key)
		switch {
		case err == nil:
			set.Fetch(s.life, v, s.stack)
		case thaw.KindOf(err) != thaw.NotFound:
			s.config.Log.Warn("a working set can't be used", "image", v.ID(), "err", err)
		}
		return nil
	})
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
		for _, it := range set.Items {
			chunks = append(chunks, it.Chunk)
		}
	}
	slices.Sort(chunks)
	return slices.Compact(chunks), nil
}
