// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// The states of a breaker, as the statistics name them.
const (
	Closed   = "closed"    // the server is asked
	Open     = "open"      // it is not
	HalfOpen = "half-open" // one request at a time tries it
)

const (
	// tripAfter is how many requests have to fail one after the other for a
	// server to be given up. One may be a packet lost or a restart.
	tripAfter = 3

	// healAfter is how many trials have to succeed one after the other.
	healAfter = 5

	// Between two trials passes from minPause, doubled after each that fails, to
	// maxPause. A trial costs a read nothing but a request.
	minPause = time.Second
	maxPause = 30 * time.Second

	// slowFactor is how many times slower than the others' median a server has
	// to be to be called slow: a whole zone that is slow, or a worker with too
	// little time, is no fault of one server.
	slowFactor = 4

	// smoothing is the weight of the answers before in the mean answer time:
	// the last dozen or so decide.
	smoothing = 8
)

// breaker decides whether a server is asked. A server is given up when requests
// fail in a row, or when its answers take long by themselves (slowAfter) and
// beside those of the others. It knows no clock.
type breaker struct {
	slowAfter time.Duration
	others    func() time.Duration // the median of the other servers' mean answer times

	mean atomic.Int64 // of answer times, nanoseconds; 0 before the first

	mu       sync.Mutex
	state    string
	failures int           // in a row, while closed
	good     int           // trials in a row, while half-open
	trying   bool          // a trial is under way
	until    time.Time     // while open: when the next trial may begin
	pause    time.Duration // the last one
}

// allow reports whether the server may be asked now. Where it does, report has
// to be called once the request has ended, or cancel if it was not made.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.state == Closed:
		return true
	case b.state == Open && now.Before(b.until), b.trying:
		return false
	case b.state == Open:
		b.state, b.good = HalfOpen, 0
		b.mean.Store(0)
	}
	b.trying = true
	return true
}

// cancel takes back what allow permitted.
func (b *breaker) cancel() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// report tells how a request ended and, where there was an answer and its time
// says something, how long it took. It returns the state that this led to, or
// nothing where the state is what it was.
func (b *breaker) report(now time.Time, answered bool, took time.Duration) (became string) {
	slow := false
	if answered && took > 0 {
		slow = b.observe(took)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	before := b.state
	switch {
	case b.state == Open: // of a request that was made before
	case answered && !slow:
		b.failures = 0
		b.good++
		if b.state == HalfOpen && b.good >= healAfter {
			b.state, b.pause = Closed, 0
		}
	case answered:
		b.tripLocked(now)
	default:
		b.failures++
		if b.state == HalfOpen || b.failures >= tripAfter {
			b.tripLocked(now)
		}
	}
	if b.state == before || before == HalfOpen && b.state == Open { // a trial that failed is no news
		return ""
	}
	return b.state
}

// observe takes an answer time into the mean, and reports whether the server is
// slow.
func (b *breaker) observe(took time.Duration) bool {
	mean := b.mean.Load()
	if mean == 0 {
		mean = int64(took)
	} else {
		mean += (int64(took) - mean) / smoothing
	}
	b.mean.Store(max(mean, 1)) // of two at a time one is lost, which a mean bears
	return time.Duration(mean) > b.slowAfter && time.Duration(mean) > slowFactor*b.others()
}

func (b *breaker) tripLocked(now time.Time) {
	b.pause = min(max(2*b.pause, minPause), maxPause)
	// The servers of a rack come back together, and many workers wait for them.
	jitter := time.Duration(rand.Int64N(int64(b.pause / 2)))
	b.state, b.failures, b.until = Open, 0, now.Add(b.pause*3/4+jitter)
}

// current returns the state and the mean answer time.
func (b *breaker) current() (string, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, time.Duration(b.mean.Load())
}
