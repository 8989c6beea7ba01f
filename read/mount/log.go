// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"sync"
	"time"

	"thaw.dev/thaw"
)

// logsPerSecond bounds the lines on failed reads: a broken origin fails
// thousands, and the first few say it all. The counters have all of them.
const logsPerSecond = 10

type logLimit struct {
	mu     sync.Mutex
	second int64
	lines  int
	hidden int64
}

// allow reports whether to log, and how many lines it did not since the last.
func (l *logLimit) allow(now time.Time) (hidden int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.second {
		l.second, l.lines = s, 0
	}
	if l.lines == logsPerSecond {
		l.hidden++
		return 0, false
	}
	l.lines++
	hidden, l.hidden = l.hidden, 0
	return hidden, true
}

func (s *Server) countRead(req request, n int, err error, took time.Duration) {
	if err == nil {
		s.stats.reads.Add(1)
		s.stats.readBytes.Add(int64(n))
		s.stats.readLatency.Observe(took)
		return
	}
	if thaw.KindOf(err) == thaw.Canceled {
		s.stats.killed.Add(1)
		return
	}
	s.stats.readErrors.Add(1)
	if errors.Is(err, errTimedOut) {
		s.stats.timeouts.Add(1)
	}
	hidden, ok := s.errors.allow(time.Now())
	if !ok {
		return
	}
	name := "?"
	if node, err := s.files.byNode(req.node); err == nil {
		name = node.name
	}
	s.opts.Log.Error("a read of an image failed", "image", name, "err", err, "took", took, "not_logged_before", hidden)
}
