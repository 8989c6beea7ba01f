// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"syscall"

	"thaw.dev/thaw"
)

// NodeID is the kernel's number for the file of that name. It follows from the
// name alone, so that a successor of a server knows what the kernel means.
func NodeID(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	id := order.Uint64(sum[:]) &^ (1 << 63) // some tools print it signed
	if id <= rootNode {
		id += 2
	}
	return id
}

// node is a file of the mount.
type node struct {
	id   uint64
	name string
	file File
}

func (n *node) attr(ctx context.Context) (attr, error) {
	size, err := n.file.Size(ctx)
	return attr{node: n.id, size: size, mode: syscall.S_IFREG | 0o400, link: 1}, err
}

// table is the files of the mount.
type table struct {
	mu    sync.RWMutex
	nodes map[uint64]*node
}

func (t *table) add(name string, f File) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := NodeID(name)
	if other := t.nodes[id]; other != nil {
		return thaw.Errorf("add "+name+" to the mount", thaw.Conflict, "%s is there", other.name)
	}
	if t.nodes == nil {
		t.nodes = map[uint64]*node{}
	}
	t.nodes[id] = &node{id, name, f}
	return nil
}

func (t *table) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id := NodeID(name); t.nodes[id] != nil && t.nodes[id].name == name {
		delete(t.nodes, id)
	}
}

func (t *table) byNode(id uint64) (*node, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n := t.nodes[id]; n != nil {
		return n, nil
	}
	return nil, thaw.Errorf("find a node", thaw.NotFound, "there is no node %d", id)
}

func (t *table) byName(name string) (*node, error) {
	n, err := t.byNode(NodeID(name))
	if err == nil && n.name != name {
		return nil, thaw.Errorf("find a file", thaw.NotFound, "there is no %s", name)
	}
	return n, err
}

// entry is a name as a listing of the folder shows it.
type entry struct {
	id   uint64
	mode uint32
	name string
}

func (t *table) list() []entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	entries := []entry{{rootNode, syscall.S_IFDIR, "."}, {rootNode, syscall.S_IFDIR, ".."}}
	for _, id := range slices.Sorted(maps.Keys(t.nodes)) {
		entries = append(entries, entry{id, syscall.S_IFREG, t.nodes[id].name})
	}
	return entries
}
