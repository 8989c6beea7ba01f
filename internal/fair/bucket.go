// SPDX-License-Identifier: Apache-2.0

package fair

import (
	"sync"
	"time"
)

// Bucket paces one owner: it gives so many units a second in the long run, and
// as many at once as it holds. Where a [Pool] bounds what is held, a Bucket
// bounds what is used up. Its methods may be called concurrently.
type Bucket struct {
	perSecond, most float64

	mu   sync.Mutex // guards what follows
	left float64    // below zero what was spent ahead
	at   time.Time  // when left was right
}

// NewBucket returns a full bucket.
func NewBucket(perSecond, most int64) *Bucket {
	return &Bucket{perSecond: float64(perSecond), most: float64(most), left: float64(most), at: time.Now()}
}

// Spend takes n units, be they there or not, and returns how long it is until
// they would have been: that long the owner is to be kept waiting.
func (b *Bucket) Spend(n int64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	b.left -= float64(n)
	if b.left >= 0 {
		return 0
	}
	return time.Duration(-b.left / b.perSecond * float64(time.Second))
}

// Pause waits so long, as Spend says, or until done is closed, and reports
// whether it waited to the end.
func Pause(done <-chan struct{}, wait time.Duration) bool {
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// Give adds n units, as far as the bucket holds them.
func (b *Bucket) Give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	b.left = min(b.most, b.left+float64(n))
}

// fill adds what time has given. The caller holds mu.
func (b *Bucket) fill() {
	now := time.Now()
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(b.most, b.left+passed.Seconds()*b.perSecond)
		b.at = now
	}
}
