// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"thaw.dev/thaw"
)

// TailBytes is how much of an invocation's log its caller can ask for: Lambda's
// 4 KB of X-Amz-Log-Result.
const TailBytes = 4096

// What is logged reaches the file flushDelay later, or once there are so many
// bytes of it: else a busy function would cost the host three writes for each
// invocation.
const (
	flushDelay = 10 * time.Millisecond
	flushBytes = 64 << 10
)

// timeLayout is a fixed 24 characters in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

// stampBytes stand before each line. They count as printed: else lines of one
// character would cost the host many times what their function may print.
const stampBytes = len(timeLayout) + 1

// Writer is one sandbox's stream. It is safe for concurrent use: a sandbox's
// output and the platform's lines meet in it. It never fails and never waits
// for more than a write to the page cache; what a full disk doesn't take is
// lost to the file, not to the tail. The file is 10 ms behind, which is what
// the end of this process can lose.
type Writer struct {
	store  *Store
	tenant thaw.TenantID
	limits Limits
	dir    string
	base   string

	mu        sync.Mutex // guards what follows
	file      *os.File   // nil before the first line and after Close
	segment   int
	fileBytes int64
	closed    bool
	pending   []byte // formatted lines that are not in the file yet
	timer     *time.Timer
	armed     bool   // timer will move pending to the file
	partial   []byte // a line of the function that has no end yet
	tail      []byte // the end of what was logged since TailStart
	tokens    int64  // bytes that the function may print now
	last      time.Time
	dropped   int64 // bytes dropped and not yet told
}

// Write takes what the function prints; it returns len(p) and no error. A line
// without an end is kept until it has one, or until the platform logs.
func (w *Writer) Write(p []byte) (int, error) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	if !w.admit(now, int64(n+bytes.Count(p, []byte{'\n'})*stampBytes)) {
		w.endLine(now) // what follows the gap is no part of it
		w.dropped += int64(n)
		return n, nil
	}
	w.tellDropped(now)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		if room := w.limits.LineBytes - len(w.partial); len(line) > room {
			line, rest, ended = p[:room], p[room:], true
		}
		if !ended {
			w.partial = append(w.partial, line...)
			break
		}
		if len(w.partial) > 0 {
			w.partial = append(w.partial, line...)
			line = w.partial
		}
		w.add(now, line)
		w.partial = w.partial[:0]
		p = rest
	}
	w.flushSoon()
	return n, nil
}

// admit is a token bucket over the function's bytes.
func (w *Writer) admit(now time.Time, n int64) bool {
	if elapsed := now.Sub(w.last); elapsed > 0 {
		w.tokens = min(w.limits.BurstBytes, w.tokens+int64(elapsed.Seconds()*float64(w.limits.BytesPerSecond)))
		w.last = now
	}
	if n > w.tokens {
		return false
	}
	w.tokens -= n
	return true
}

// endLine ends a line that the function has begun.
func (w *Writer) endLine(now time.Time) {
	if len(w.partial) > 0 {
		w.add(now, w.partial)
		w.partial = w.partial[:0]
	}
}

func (w *Writer) tellDropped(now time.Time) {
	if w.dropped > 0 {
		w.add(now, fmt.Appendf(nil, "[thaw] %d bytes of log were dropped: the function printed more than %d bytes a second",
			w.dropped, w.limits.BytesPerSecond))
		w.dropped = 0
	}
}

// Platform logs lines of the platform's own, each without its end; it first
// ends a line that the function has begun.
func (w *Writer) Platform(lines ...string) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLine(now)
	w.tellDropped(now)
	for _, line := range lines {
		w.add(now, []byte(line))
	}
	w.flushSoon()
}

// Flush writes to the file what was logged.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
}

// flushSoon sees to it that pending reaches the file.
func (w *Writer) flushSoon() {
	switch {
	case len(w.pending) >= flushBytes || w.closed:
		w.flush()
	case len(w.pending) == 0 || w.armed:
	case w.timer == nil:
		w.timer = time.AfterFunc(flushDelay, w.flushLate)
		w.armed = true
	default:
		w.timer.Reset(flushDelay)
		w.armed = true
	}
}

// flushLate is what the timer does.
func (w *Writer) flushLate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	w.flush()
}

// TailStart forgets the tail: what is logged from now on belongs to it.
func (w *Writer) TailStart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = w.tail[:0]
}

// Tail returns the last [TailBytes] at most of what was logged since TailStart,
// the lines without times, as Lambda gives it.
func (w *Writer) Tail() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.tail[max(0, len(w.tail)-TailBytes):])
}

// Close ends the stream and deletes the function's oldest files beyond the
// limits. What is written afterwards is dropped.
func (w *Writer) Close() error {
	w.Platform()
	w.mu.Lock()
	w.flush()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop() // one that fires all the same finds nothing to write
	}
	file := w.file
	w.file = nil
	w.mu.Unlock()
	if file == nil {
		return nil
	}
	w.store.prune(w.tenant, w.dir)
	return file.Close()
}

// add formats a line into pending and the tail.
func (w *Writer) add(now time.Time, line []byte) {
	w.pending = now.UTC().AppendFormat(w.pending, timeLayout)
	w.pending = append(w.pending, ' ')
	w.pending = append(w.pending, line...)
	w.pending = append(w.pending, '\n')
	w.tail = append(w.tail, line[max(0, len(line)-TailBytes):]...)
	w.tail = append(w.tail, '\n')
	if len(w.tail) > 4*TailBytes {
		w.tail = append(w.tail[:0], w.tail[len(w.tail)-TailBytes:]...)
	}
}

// flush moves pending to the file, and to a new file where that one is full.
func (w *Writer) flush() {
	if len(w.pending) == 0 {
		return
	}
	defer func() {
		w.pending = w.pending[:0]
		if cap(w.pending) > 1<<20 {
			w.pending = nil
		}
	}()
	if w.closed {
		return
	}
	if w.file != nil && w.fileBytes+int64(len(w.pending)) > w.limits.FileBytes {
		_ = w.file.Close() // nothing more can be done for it
		w.file, w.segment, w.fileBytes = nil, w.segment+1, 0
		w.store.prune(w.tenant, w.dir)
	}
	if w.file == nil && !w.create() {
		return
	}
	n, _ := w.file.Write(w.pending) // a full disk must not stop a function
	w.fileBytes += int64(n)
	w.store.grew(w.tenant, int64(n))
}

func (w *Writer) create() bool {
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return false
	}
	name := fmt.Sprintf("%s.%d.log", w.base, w.segment)
	file, err := os.OpenFile(filepath.Join(w.dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return false
	}
	w.file = file
	w.store.grew(w.tenant, fileBytes)
	return true
}
