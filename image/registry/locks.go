// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"hash/maphash"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// locks are those of all owners. No owner waits for a lock of another's.
type locks struct {
	seed maphash.Seed

	mu      sync.Mutex
	byOwner map[string]*ownerLocks // for good: owners are accounts, and public
}

// ownerLocks are a fixed number, over which an owner's repositories and blobs
// are spread, so that they need no bookkeeping; two that share one only wait for
// each other.
type ownerLocks struct {
	repos    [64]sync.RWMutex
	blobs    [64]sync.Mutex
	folders  sync.Mutex // while the owner's folders are made
	counting sync.Mutex // while it is counted what the owner has
}

func newLocks() locks {
	return locks{seed: maphash.MakeSeed(), byOwner: map[string]*ownerLocks{}}
}

func (l *locks) of(owner string) *ownerLocks {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.byOwner[owner]
	if o == nil {
		o = &ownerLocks{}
		l.byOwner[owner] = o
	}
	return o
}

func (s *Store) repoLock(r *Repo) *sync.RWMutex {
	o := s.locks.of(r.owner)
	return &o.repos[maphash.String(s.locks.seed, r.name)%uint64(len(o.repos))]
}

func (s *Store) blobLock(owner string, h v1.Hash) *sync.Mutex {
	o := s.locks.of(owner)
	return &o.blobs[maphash.String(s.locks.seed, h.Hex)%uint64(len(o.blobs))]
}
