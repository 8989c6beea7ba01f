// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	thaw "thaw.dev/thaw"
)

const (
	// maxIndexes bounds the repositories whose names are in memory.
	maxIndexes = 64

	// maxReads bounds the repositories whose manifests are read at a time.
	maxReads = 8
)

// indexes has, for repositories that were asked about what they lack, what their
// tags and manifests name: each push of something new asks, and a repository
// has as many manifests as its owner likes.
type indexes struct {
	reads chan struct{} // of capacity maxReads

	mu     sync.Mutex
	byRepo map[string]*index // by the repository's folder
}

func newIndexes() *indexes {
	return &indexes{reads: make(chan struct{}, maxReads), byRepo: map[string]*index{}}
}

// index has at least what a repository names. Names are added before a push is
// answered, and stay until they are looked for in vain.
type index struct {
	mu   sync.Mutex
	seen map[uint64]struct{} // the fronts of digests; nil before the manifests were read
}

// of returns the index of a repository.
func (x *indexes) of(r *Repo) *index {
	x.mu.Lock()
	defer x.mu.Unlock()
	if found := x.byRepo[r.dir]; found != nil {
		return found
	}
	for dir := range x.byRepo {
		if len(x.byRepo) < maxIndexes {
			break
		}
		delete(x.byRepo, dir)
	}
	made := &index{}
	x.byRepo[r.dir] = made
	return made
}

// front is the part of a digest that an index has. Digests that share it cost a
// look at the manifests.
func front(h v1.Hash) uint64 {
	n, _ := strconv.ParseUint(h.Hex[:min(16, len(h.Hex))], 16, 64) // hexadecimal, as all digests that are let in
	return n
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
	i.seen[front(h)] = struct{}{}
	i.add(doc)
}

func (i *index) add(doc document) {
	for _, list := range [][]reference{doc.blobs, doc.manifests} {
		for _, d := range list {
			if !d.elsewhere {
				i.seen[front(d.Digest)] = struct{}{}
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
	if _, seen := i.seen[front(h)]; i.seen != nil && !seen {
		return false, nil
	}
	all.reads <- struct{}{}
	defer func() { <-all.reads }()
	named := false
	fresh := index{seen: map[uint64]struct{}{}}
	tags, err := r.tagsByDigest()
	if err != nil {
		return false, err
	}
	for tagged := range tags {
		fresh.seen[front(tagged)] = struct{}{}
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
