// SPDX-License-Identifier: Apache-2.0

package s3fifo

// entry is a value in one of the two queues.
type entry[K comparable, V any] struct {
	key          K
	value        V
	cost         int64
	uses         uint8
	main         bool // which queue it is in
	older, newer *entry[K, V]
}

// queue is a list of entries, oldest at the tail.
type queue[K comparable, V any] struct {
	head, tail *entry[K, V]
	cost       int64
}

func (q *queue[K, V]) push(e *entry[K, V]) {
	e.older, e.newer = q.head, nil
	if q.head != nil {
		q.head.newer = e
	} else {
		q.tail = e
	}
	q.head = e
	q.cost += e.cost
}

func (q *queue[K, V]) remove(e *entry[K, V]) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		q.head = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		q.tail = e.newer
	}
	e.older, e.newer = nil, nil
	q.cost -= e.cost
}

// ghosts are the keys last evicted from the small queue: one that comes back
// goes to the main queue at once. At most as many as there are entries.
type ghosts[K comparable] struct {
	order []K          // oldest first; may hold keys already removed
	held  map[K]uint64 // key -> its position counted from the beginning of time
	begin uint64       // the position of order[0]
}

func (g *ghosts[K]) add(key K, limit int) {
	if g.held == nil {
		g.held = map[K]uint64{}
	}
	g.held[key] = g.begin + uint64(len(g.order))
	g.order = append(g.order, key)
	for len(g.held) > limit || len(g.order) > 2*limit+1 {
		oldest := g.order[0]
		if g.held[oldest] == g.begin { // else it was removed, or is younger by now
			delete(g.held, oldest)
		}
		g.order = g.order[1:]
		g.begin++
	}
}

func (g *ghosts[K]) remove(key K) bool {
	_, ok := g.held[key]
	delete(g.held, key)
	return ok
}
