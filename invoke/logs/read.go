// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bufio"
	"container/heap"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"thaw.dev/thaw"
)

// Event is one line of a function's log.
type Event struct {
	Time   time.Time
	Stream string // which sandbox
	Text   string
}

// ReadOptions says what of a function's log is wanted.
type ReadOptions struct {
	Since  time.Time // events from then on; zero means from the beginning
	Last   int       // at most so many of the last events; 0 means all
	Follow bool      // go on with what is logged from now on, until ctx ends
}

const (
	// pollInterval is how often a follower looks for more.
	pollInterval = 200 * time.Millisecond

	// endBytes is how much of a file's end is searched for the last events.
	endBytes = 1 << 20
)

// Read yields a function's events merged over its sandboxes in the order of
// their times, those of one sandbox as it wrote them. Following, it yields what
// comes in batches that are ordered in themselves, and ends without an error
// when ctx does. A function without logs has no events. Memory is bounded by
// one line and some KiB for each file, however long the log.
func (s *Store) Read(ctx context.Context, tenant thaw.TenantID, function string, o ReadOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		dir, err := s.functionDir(tenant, function)
		if err != nil {
			yield(Event{}, err)
			return
		}
		f := follower{dir: dir, since: o.Since, at: map[string]int64{}}
		events := f.batch(ctx, false)
		if o.Last > 0 {
			events = last(o.Last, f.batch(ctx, true))
		}
		for {
			for e, err := range events {
				if err != nil && ctx.Err() != nil && o.Follow {
					return
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
			if !o.Follow || !sleep(ctx, pollInterval) {
				return
			}
			events = f.batch(ctx, false)
		}
	}
}

// last yields the last n events of a batch.
func last(n int, events iter.Seq2[Event, error]) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var kept []Event
		for e, err := range events {
			if err != nil {
				yield(e, err)
				return
			}
			if kept = append(kept, e); len(kept) == 2*n {
				kept = append(kept[:0], kept[n:]...)
			}
		}
		for _, e := range kept[max(0, len(kept)-n):] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// follower remembers how far each file was read.
type follower struct {
	dir   string
	since time.Time
	at    map[string]int64
}

// batch yields the events that are new since the last batch, merged. Where only
// the end is wanted, it starts near each file's end.
func (f *follower) batch(ctx context.Context, end bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		cursors, err := f.open(end)
		defer func() {
			for _, c := range cursors {
				_ = c.file.Close() // only read from
			}
		}()
		if err != nil {
			yield(Event{}, err)
			return
		}
		ahead := make(queue, 0, len(cursors))
		for _, c := range cursors {
			if c.seek(f.since) {
				ahead = append(ahead, c)
			}
		}
		heap.Init(&ahead)
		for len(ahead) > 0 {
			c := ahead[0]
			e, whole := c.take()
			if whole && !yield(e, nil) {
				return
			}
			if whole && c.seek(f.since) {
				heap.Fix(&ahead, 0)
			} else {
				heap.Pop(&ahead)
			}
			if err := ctx.Err(); err != nil {
				yield(Event{}, err)
				return
			}
		}
		for _, c := range cursors {
			if c.failed != nil {
				yield(Event{}, thaw.Wrap("logs: read", c.failed))
				return
			}
			f.at[c.path] = c.at
		}
	}
}

// open opens the files that have something new, a stream's earlier ones first.
// The caller closes them, also after an error.
func (f *follower) open(end bool) ([]*cursor, error) {
	list, err := segments(f.dir)
	if err != nil {
		return nil, err
	}
	var cursors []*cursor
	for _, seg := range slices.Backward(list) {
		from, known := f.at[seg.path]
		// A file's time lags behind the clock by a tick of the kernel.
		old := seg.mtime.Before(f.since.Add(-time.Second))
		if seg.bytes <= from || (!known && old) {
			f.at[seg.path] = max(from, seg.bytes)
			continue
		}
		if !known && end && seg.bytes > endBytes {
			from = seg.bytes - endBytes
		}
		file, err := os.Open(seg.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned meanwhile
		}
		if err != nil {
			return cursors, thaw.Wrap("logs: read", err)
		}
		cursors = append(cursors, &cursor{segment: seg, file: file, order: len(cursors), at: from,
			in: bufio.NewReader(io.NewSectionReader(file, from, seg.bytes-from))})
	}
	return cursors, nil
}

// cursor reads the whole lines of one file. It holds no line but the one that
// is being taken: of the one ahead it knows the time.
type cursor struct {
	segment
	file   *os.File
	in     *bufio.Reader
	order  int       // among cursors whose next lines have the same time
	at     int64     // where in the file the next line begins
	time   time.Time // of the next line
	failed error     // other than the end
}

// seek goes to the next line that is an event of since or later, and reports
// whether there may be one. What is no event is what an offset has cut off, or
// not ours.
func (c *cursor) seek(since time.Time) bool {
	for {
		head, err := c.in.Peek(len(timeLayout) + 1)
		if err != nil && !errors.Is(err, io.EOF) {
			c.failed = err
			return false
		}
		at, ok := parseTime(head)
		if ok && !at.Before(since) {
			c.time = at
			return true
		}
		if !c.skip() {
			return false
		}
	}
}

// skip passes over a line, and reports whether it was whole.
func (c *cursor) skip() bool {
	var n int64
	for {
		part, err := c.in.ReadSlice('\n')
		n += int64(len(part))
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			c.note(err)
			return false
		}
		c.at += n
		return true
	}
}

// take returns the event that seek found, if its line is whole.
func (c *cursor) take() (Event, bool) {
	line, err := c.in.ReadBytes('\n')
	if err != nil {
		c.note(err)
		return Event{}, false
	}
	c.at += int64(len(line))
	return Event{Time: c.time, Stream: c.stream, Text: string(line[len(timeLayout)+1 : len(line)-1])}, true
}

func (c *cursor) note(err error) {
	if !errors.Is(err, io.EOF) {
		c.failed = err
	}
}

// queue is a heap of cursors, the one with the earliest next line first.
type queue []*cursor

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if c := q[i].time.Compare(q[j].time); c != 0 {
		return c < 0
	}
	return q[i].order < q[j].order
}
func (q *queue) Push(x any) { *q = append(*q, x.(*cursor)) }
func (q *queue) Pop() any {
	old := *q
	c := old[len(old)-1]
	*q = old[:len(old)-1]
	return c
}

// parseTime reads the time that a line begins with.
func parseTime(head []byte) (time.Time, bool) {
	if len(head) <= len(timeLayout) || head[len(timeLayout)] != ' ' {
		return time.Time{}, false
	}
	at, err := time.Parse(timeLayout, string(head[:len(timeLayout)]))
	return at, err == nil
}
