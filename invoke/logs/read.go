package logs

import (
	"bytes"
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

	// readBytes is how much of a file is read at once, and how much of its
	// end is searched for the last events.
	readBytes = 1 << 20
)

// Read yields a function's events in the order of their times, merged over its
// sandboxes. Following, it yields what comes in batches that are ordered in
// themselves, and ends without an error when ctx does. A function without logs
// has no events.
func (s *Store) Read(ctx context.Context, tenant thaw.TenantID, function string, o ReadOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		dir, err := s.functionDir(tenant, function)
		if err != nil {
			yield(Event{}, err)
			return
		}
		f := follower{dir: dir, since: o.Since, at: map[string]int64{}}
		for first := true; ; first = false {
			events, err := f.collect(ctx, first && o.Last > 0)
			if err != nil {
				if ctx.Err() == nil || !o.Follow {
					yield(Event{}, err)
				}
				return
			}
			if first && o.Last > 0 {
				events = events[max(0, len(events)-o.Last):]
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
			if !o.Follow || !sleep(ctx, pollInterval) {
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

// collect returns the events that are new since the last call, sorted. Where
// only the end is wanted, it starts near each file's end.
func (f *follower) collect(ctx context.Context, end bool) ([]Event, error) {
	list, err := segments(f.dir)
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, seg := range slices.Backward(list) { // a stream's earlier files first
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		from, known := f.at[seg.path]
		// A file's time lags behind the clock by a tick of the kernel.
		old := seg.mtime.Before(f.since.Add(-time.Second))
		if seg.bytes <= from || (!known && old) {
			f.at[seg.path] = max(from, seg.bytes)
			continue
		}
		if !known && end && seg.bytes > readBytes {
			from = seg.bytes - readBytes
		}
		read, err := f.readFile(seg, from)
		if err != nil {
			return nil, err
		}
		events = append(events, read...)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return events, nil
}

// readFile returns the whole lines of a file from an offset on. The first is
// left out where the offset may be inside a line.
func (f *follower) readFile(seg segment, from int64) ([]Event, error) {
	file, err := os.Open(seg.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // pruned meanwhile
	}
	if err != nil {
		return nil, thaw.Wrap("logs: read", err)
	}
	defer file.Close()
	data := make([]byte, seg.bytes-from)
	n, err := file.ReadAt(data, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, thaw.Wrap("logs: read", err)
	}
	data = data[:bytes.LastIndexByte(data[:n], '\n')+1]
	f.at[seg.path] = from + int64(len(data))
	var events []Event
	for line := range bytes.Lines(data) {
		// A line that does not parse is what an offset cut off, or not ours.
		if e, ok := parse(line[:len(line)-1], seg.stream); ok && !e.Time.Before(f.since) {
			events = append(events, e)
		}
	}
	return events, nil
}

func parse(line []byte, stream string) (Event, bool) {
	if len(line) <= len(timeLayout) || line[len(timeLayout)] != ' ' {
		return Event{}, false
	}
	at, err := time.Parse(timeLayout, string(line[:len(timeLayout)]))
	if err != nil {
		return Event{}, false
	}
	return Event{Time: at, Stream: stream, Text: string(line[len(timeLayout)+1:])}, true
}
