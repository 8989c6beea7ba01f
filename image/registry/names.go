// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/maphash"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
	"thaw.dev/thaw/internal/fair"
)

const (
	// maxIndexes bounds the repositories whose names are in memory.
	maxIndexes = 64

	// maxReads bounds the repositories whose manifests are read at a time, and
	// ownerReads those of one owner.
	maxReads, ownerReads = 8, 2
)

// indexes has, for repositories that were asked about what they lack, what their
// tags and manifests name: each push of something new asks, and a repository
// has as many manifests as its owner likes.
type indexes struct {
	seed  maphash.Seed
	reads *fair.Pool

	mu     sync.Mutex
	byRepo map[string]*index // by the repository's folder
}

func newIndexes() *indexes {
	return &indexes{seed: maphash.MakeSeed(), byRepo: map[string]*index{},
		reads: fair.New(fair.Options{Name: "manifest-reads", Size: maxReads, PerOwner: ownerReads})}
}

// Pools returns what tenants share here.
func (s *Store) Pools() []*fair.Pool { return []*fair.Pool{s.indexes.reads, s.buffers} }

// index has at least what a repository names. Names are added before a push is
// answered, and stay until they are looked for in vain.
type index struct {
	owner string
	seed  maphash.Seed

	mu   sync.Mutex
	seen map[uint64]struct{} // hashes of digests; nil before the manifests were read
}

// of returns the index of a repository.
func (x *indexes) of(r *Repo) *index {
	x.mu.Lock()
	defer x.mu.Unlock()
	if found := x.byRepo[r.dir]; found != nil {
		return found
	}
	if len(x.byRepo) >= maxIndexes {
		x.evictLocked()
	}
	made := &index{owner: r.owner, seed: x.seed}
	x.byRepo[r.dir] = made
	return made
}

// evictLocked forgets an index of the owner that has most of them.
func (x *indexes) evictLocked() {
	held := map[string]int{}
	victim, most := "", 0
	for dir, i := range x.byRepo {
		if held[i.owner]++; held[i.owner] > most {
			victim, most = dir, held[i.owner]
		}
	}
	delete(x.byRepo, victim)
}

// key is what an index has of a digest. Digests that share it cost a look at the
// manifests, so the seed keeps anyone from choosing such.
func (i *index) key(h v1.Hash) uint64 {
	return maphash.String(i.seed, fileOfDigest(h))
}

// mayName reports whether the repository perhaps names h, without a look at the
// manifests.
func (r *Repo) mayName(h v1.Hash) bool {
	i := r.store.indexes.of(r)
	i.mu.Lock()
	defer i.mu.Unlock()
	_, seen := i.seen[i.key(h)]
	return seen || i.seen == nil
}

// note adds what a manifest that was just stored names, and itself, which its
// tags name.
func (x *indexes) note(r *Repo, h v1.Hash, doc document) {
	i := x.of(r)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.seen == nil {
		return
	}
	i.seen[i.key(h)] = struct{}{}
	i.add(doc)
}

func (i *index) add(doc document) {
	for _, list := range [][]reference{doc.blobs, doc.manifests} {
		for _, d := range list {
			if !d.elsewhere {
				i.seen[i.key(d.Digest)] = struct{}{}
			}
		}
	}
}

// names reports whether a tag or a manifest of the repository names h. Where the
// index can't tell, it reads them.
func (r *Repo) names(h v1.Hash) (bool, error) {
	all := r.store.indexes
	i := all.of(r)
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, seen := i.seen[i.key(h)]; i.seen != nil && !seen {
		return false, nil
	}
	// The turn comes: whoever is before is reading, which ends.
	release, err := all.reads.Acquire(context.Background(), r.owner, 1)
	if err != nil {
		return false, thaw.Wrap("registry", err)
	}
	defer release()
	named := false
	fresh := index{seed: i.seed, seen: map[uint64]struct{}{}}
	tags, err := r.tagsByDigest()
	if err != nil {
		return false, err
	}
	for tagged := range tags {
		fresh.seen[i.key(tagged)] = struct{}{}
		named = named || tagged == h
	}
	manifests, err := r.manifestDigests()
	if err != nil {
		return false, err
	}
	whole := true
	for _, by := range manifests {
		doc, data, err := r.document(by)
		switch {
		case err != nil && (data == nil || bytes.Contains(data, []byte(h.Hex))):
			return false, err
		case err != nil:
			whole = false // who knows what else it names
		}
		fresh.add(doc)
		named = named || doc.names(h)
	}
	if whole {
		i.seen = fresh.seen
	}
	return named, nil
}

// names reports whether a manifest names h as a part that the repository must
// have.
func (d document) names(h v1.Hash) bool {
	for _, list := range [][]reference{d.blobs, d.manifests} {
		for _, part := range list {
			if part.Digest == h && !part.elsewhere {
				return true
			}
		}
	}
	return false
}

// document reads and parses a manifest; one that was deleted meanwhile names
// nothing. With an error, its bytes are what could be read.
func (r *Repo) document(h v1.Hash) (document, []byte, error) {
	m := Manifest{Digest: h, path: r.manifestPath(h)}
	header, data, err := m.read(true)
	if isNotExist(err) {
		return document{}, nil, nil
	}
	if err != nil {
		return document{}, nil, diskError("read "+h.String(), err)
	}
	if err := json.Unmarshal(header, &m); err != nil {
		return document{}, data, thaw.Errorf("registry: read "+h.String(), thaw.Corrupt, "header: %w", err)
	}
	doc, err := parseManifest(m.MediaType, data)
	return doc, data, thaw.OurFault("registry: read "+h.String(), err)
}
