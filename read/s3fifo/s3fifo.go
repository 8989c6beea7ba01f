// SPDX-License-Identifier: Apache-2.0

// Package s3fifo is a cache bounded by cost, with the S3-FIFO policy: three
// queues, no reordering on a hit. It resists scans: what is seen once passes
// through the small queue, a tenth of the room, and disturbs nothing else. It
// keeps values, does no I/O and starts no goroutine.
//
// The policy is that of Yang et al., "FIFO queues are all you need for cache
// eviction", SOSP 2023, figure 4; with costs in place of counts.
package s3fifo

import "iter"

const (
	smallShare = 10 // the small queue's part of the capacity is one in so many
	maxUses    = 3  // uses are counted up to here (two bits in the paper)
)

// Cache holds values under keys up to a total cost. Use [New]. It is not safe
// for concurrent use.
type Cache[K comparable, V any] struct {
	capacity int64
	evicted  func(K, V)
	entries  map[K]*entry[K, V]
	small    queue[K, V]
	main     queue[K, V]
	ghost    ghosts[K]
}

// New returns an empty cache of that capacity, which is in the unit of the
// costs given to Add. evicted, if not nil, is called for each value that leaves
// to make room, not for those removed or replaced; it must not use the cache.
func New[K comparable, V any](capacity int64, evicted func(K, V)) *Cache[K, V] {
	if evicted == nil {
		evicted = func(K, V) {}
	}
	return &Cache[K, V]{capacity: capacity, evicted: evicted, entries: map[K]*entry[K, V]{}}
}

// Get returns the value under key and counts a use.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	e := c.entries[key]
	if e == nil {
		var none V
		return none, false
	}
	e.uses = min(e.uses+1, maxUses)
	return e.value, true
}

// Has reports whether key is held, without counting a use.
func (c *Cache[K, V]) Has(key K) bool { return c.entries[key] != nil }

// Add holds value under key, evicting others for room. It reports false, and
// does nothing, where key is held already or cost exceeds the whole capacity.
func (c *Cache[K, V]) Add(key K, value V, cost int64) bool {
	if cost > c.capacity || c.entries[key] != nil {
		return false
	}
	known := c.ghost.remove(key)
	c.shrink(c.capacity - cost)
	e := &entry[K, V]{key: key, value: value, cost: cost, main: known}
	c.entries[key] = e
	c.queueOf(e).push(e)
	return true
}

// Remove drops key and reports whether it was held.
func (c *Cache[K, V]) Remove(key K) bool {
	e := c.entries[key]
	if e == nil {
		return false
	}
	c.queueOf(e).remove(e)
	delete(c.entries, key)
	return true
}

// SetCapacity changes the capacity, evicting what no longer fits.
func (c *Cache[K, V]) SetCapacity(capacity int64) {
	c.capacity = capacity
	c.shrink(capacity)
}

// Capacity is the bound on Cost.
func (c *Cache[K, V]) Capacity() int64 { return c.capacity }

// Cost is the sum of the costs of what is held.
func (c *Cache[K, V]) Cost() int64 { return c.small.cost + c.main.cost }

// Len is the number of values held.
func (c *Cache[K, V]) Len() int { return len(c.entries) }

// Clear forgets everything, without calling evicted.
func (c *Cache[K, V]) Clear() {
	clear(c.entries)
	c.small, c.main, c.ghost = queue[K, V]{}, queue[K, V]{}, ghosts[K]{}
}

// Item is an entry as [Cache.Items] gives it and [Cache.Restore] takes it.
type Item[K comparable, V any] struct {
	Key   K
	Value V
	Cost  int64
	Main  bool // in the main queue
	Uses  uint8
}

// Items yields what is held, in each queue the next to be evicted first. The
// cache must not change meanwhile.
func (c *Cache[K, V]) Items() iter.Seq[Item[K, V]] {
	return func(yield func(Item[K, V]) bool) {
		for _, q := range []*queue[K, V]{&c.small, &c.main} {
			for e := q.tail; e != nil; e = e.newer {
				if !yield(Item[K, V]{e.key, e.value, e.cost, e.main, e.uses}) {
					return
				}
			}
		}
	}
}

// Restore adds an item as it was when Items yielded it, under Add's conditions.
func (c *Cache[K, V]) Restore(it Item[K, V]) bool {
	if it.Cost > c.capacity || c.entries[it.Key] != nil {
		return false
	}
	c.shrink(c.capacity - it.Cost)
	e := &entry[K, V]{key: it.Key, value: it.Value, cost: it.Cost, main: it.Main, uses: min(it.Uses, maxUses)}
	c.entries[it.Key] = e
	c.queueOf(e).push(e)
	return true
}

func (c *Cache[K, V]) queueOf(e *entry[K, V]) *queue[K, V] {
	if e.main {
		return &c.main
	}
	return &c.small
}

// shrink evicts until the cost is at most limit.
func (c *Cache[K, V]) shrink(limit int64) {
	for c.Cost() > limit && c.Len() > 0 {
		if c.main.tail == nil || (c.small.tail != nil && c.small.cost >= c.capacity/smallShare) {
			c.evictSmall()
		} else {
			c.evictMain()
		}
	}
}

// evictSmall takes the oldest of the small queue: used more than once since it
// came, it moves to the main queue; else it goes, and only its key is kept.
func (c *Cache[K, V]) evictSmall() {
	e := c.small.tail
	c.small.remove(e)
	if e.uses > 1 {
		e.main, e.uses = true, 0
		c.main.push(e)
		return
	}
	c.drop(e)
	c.ghost.add(e.key, len(c.entries))
}

// evictMain takes the oldest of the main queue: each use since it was last here
// buys it one more round.
func (c *Cache[K, V]) evictMain() {
	e := c.main.tail
	c.main.remove(e)
	if e.uses > 0 {
		e.uses--
		c.main.push(e)
		return
	}
	c.drop(e)
}

func (c *Cache[K, V]) drop(e *entry[K, V]) {
	delete(c.entries, e.key)
	c.evicted(e.key, e.value)
}
