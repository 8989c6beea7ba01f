// SPDX-License-Identifier: Apache-2.0

// Package quota counts what each owner has of something that an owner may have
// so much of. Unlike a pool of internal/fair, what is counted is kept, and
// nobody waits for it: who has too much is refused, and told so.
package quota

import "sync"

// Quota is a bound for each owner. Its methods may be called concurrently.
type Quota struct {
	name  string
	limit int64

	mu      sync.Mutex // guards what follows
	used    map[string]int64
	refused uint64
}

// New returns a quota of which nobody has anything. The name is that in metrics;
// a limit of 0 is no bound.
func New(name string, limit int64) *Quota {
	return &Quota{name: name, limit: limit, used: map[string]int64{}}
}

// Limit returns what an owner may have, 0 for any amount.
func (q *Quota) Limit() int64 { return q.limit }

// Take adds n to what an owner has, or reports false and adds nothing where that
// would be too much.
func (q *Quota) Take(owner string, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit > 0 && n > 0 && q.used[owner]+n > q.limit {
		q.refused++
		return false
	}
	q.used[owner] += n
	return true
}

// Give takes n off what an owner has, if it is known.
func (q *Quota) Give(owner string, n int64) { q.Add(owner, -n) }

// Add adds n to what an owner has, if it is known, whether that is too much or
// not.
func (q *Quota) Add(owner string, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if used, known := q.used[owner]; known {
		q.used[owner] = max(0, used+n)
	}
}

// Set says what an owner has, as it was counted.
func (q *Quota) Set(owner string, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used[owner] = n
}

// Forget makes what an owner has unknown.
func (q *Quota) Forget(owner string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.used, owner)
}

// Refuse counts a refusal that was decided elsewhere.
func (q *Quota) Refuse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refused++
}

// Used returns what an owner has, and whether it is known.
func (q *Quota) Used(owner string) (n int64, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, known = q.used[owner]
	return n, known
}

// Usage is a quota at one moment.
type Usage struct {
	Name    string `json:"name"`
	Limit   int64  `json:"limit"`   // 0 for none
	Most    int64  `json:"used"`    // that one owner has
	Refused uint64 `json:"refused"` // requests, ever
}

// Usage returns the most that one owner has, of those that are wanted, nil for
// all.
func (q *Quota) Usage(wanted func(owner string) bool) Usage {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := Usage{Name: q.name, Limit: q.limit, Refused: q.refused}
	for owner, n := range q.used {
		if wanted == nil || wanted(owner) {
			u.Most = max(u.Most, n)
		}
	}
	return u
}
