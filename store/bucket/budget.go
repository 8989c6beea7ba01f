// SPDX-License-Identifier: Apache-2.0

package bucket

import "sync"

// refund is the share of a retry that a success pays for: in the long run at
// most one request in eleven is a retry, however much fails.
const refund = 0.1

// budget is the store's allowance of retries. It is safe for concurrent use.
type budget struct {
	max float64

	mu      sync.Mutex
	tokens  float64
	refused int64 // retries that were not made for want of a token
}

func newBudget(retries int) *budget {
	return &budget{max: float64(retries), tokens: float64(retries)}
}

// take reports whether a retry may be made, and pays for it.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		b.refused++
		return false
	}
	b.tokens--
	return true
}

// succeeded puts back what a success is worth.
func (b *budget) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.max, b.tokens+refund)
}

func (b *budget) state() (left float64, refused int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens, b.refused
}
