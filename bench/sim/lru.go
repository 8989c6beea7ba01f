// SPDX-License-Identifier: Apache-2.0

package main

import "thaw.dev/thaw/read/s3fifo"

// policy is a cache of keys, bounded by bytes.
type policy[K comparable] interface {
	get(K) bool // whether it is held; counts as a use
	add(key K, bytes int64)
}

// fifo is the policy that both parts of L1 have.
type fifo[K comparable] struct{ cache *s3fifo.Cache[K, struct{}] }

func newFIFO[K comparable](bytes int64) policy[K] {
	return fifo[K]{s3fifo.New[K, struct{}](bytes, nil)}
}

func (f fifo[K]) get(key K) bool {
	_, ok := f.cache.Get(key)
	return ok
}

func (f fifo[K]) add(key K, bytes int64) { f.cache.Add(key, struct{}{}, bytes) }

// lru evicts what was used the longest ago. It stands for memcached's policy,
// and is what L1's is compared with.
type lru[K comparable] struct {
	capacity, bytes int64
	at              map[K]int32
	nodes           []node[K] // 0 is the ring's head: after it the newest, before it the oldest
	free            []int32
}

type node[K comparable] struct {
	key          K
	older, newer int32
	bytes        int64
}

func newLRU[K comparable](bytes int64) *lru[K] {
	return &lru[K]{capacity: bytes, at: map[K]int32{}, nodes: make([]node[K], 1)}
}

func (l *lru[K]) get(key K) bool {
	i, ok := l.at[key]
	if ok {
		l.unlink(i)
		l.link(i)
	}
	return ok
}

func (l *lru[K]) add(key K, bytes int64) {
	if bytes > l.capacity || l.get(key) {
		return
	}
	for l.bytes+bytes > l.capacity {
		l.evict()
	}
	i := int32(len(l.nodes))
	if n := len(l.free); n > 0 {
		i = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		l.nodes = append(l.nodes, node[K]{})
	}
	l.nodes[i] = node[K]{key: key, bytes: bytes}
	l.at[key] = i
	l.bytes += bytes
	l.link(i)
}

func (l *lru[K]) evict() {
	i := l.nodes[0].newer
	l.unlink(i)
	delete(l.at, l.nodes[i].key)
	l.bytes -= l.nodes[i].bytes
	l.free = append(l.free, i)
}

func (l *lru[K]) link(i int32) {
	newest := l.nodes[0].older
	l.nodes[i].older, l.nodes[i].newer = newest, 0
	l.nodes[newest].newer = i
	l.nodes[0].older = i
}

func (l *lru[K]) unlink(i int32) {
	n := l.nodes[i]
	l.nodes[n.older].newer = n.newer
	l.nodes[n.newer].older = n.older
}
