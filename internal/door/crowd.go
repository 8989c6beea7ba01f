// SPDX-License-Identifier: Apache-2.0

package door

import "container/list"

// crowd are connections by owner. Its methods are called with Door.mu held.
type crowd map[string]*group

// group are the connections of one owner, those that have been so for longest
// first.
type group struct {
	waiting list.List // of *conn, that wait for their client
	busy    list.List // of *conn, that the server works for
}

func (g *group) list(busy bool) *list.List {
	if busy {
		return &g.busy
	}
	return &g.waiting
}

func (c crowd) add(owner string, conn *conn) {
	g := c[owner]
	if g == nil {
		g = &group{}
		c[owner] = g
	}
	conn.place = g.list(conn.busy).PushBack(conn)
}

func (c crowd) remove(owner string, conn *conn) {
	g := c[owner]
	g.list(conn.busy).Remove(conn.place)
	if g.waiting.Len()+g.busy.Len() == 0 {
		delete(c, owner)
	}
}

// first is who makes room in a group: who has waited longest for its client; if
// nobody does and even busy ones may be closed, who has been busy longest.
func (g *group) first(evenBusy bool) *conn {
	if g == nil {
		return nil
	}
	e := g.waiting.Front()
	if e == nil && evenBusy {
		e = g.busy.Front()
	}
	if e == nil {
		return nil
	}
	return e.Value.(*conn)
}

// most is who makes room in the crowd: the first of the owner with most.
func (c crowd) most(evenBusy bool) *conn {
	var largest *group
	size := 0
	for _, g := range c {
		n := g.waiting.Len()
		if evenBusy {
			n += g.busy.Len()
		}
		if n > size {
			largest, size = g, n
		}
	}
	return largest.first(evenBusy)
}

// from is who makes room in the crowd for another of that address: of those who
// wait for their client, and of the owner with most.
func (c crowd) from(address string) *conn {
	var found *conn
	size := 0
	for _, g := range c {
		if g.waiting.Len() <= size {
			continue
		}
		for e := g.waiting.Front(); e != nil; e = e.Next() {
			if of := e.Value.(*conn); of.address == address {
				found, size = of, g.waiting.Len()
				break
			}
		}
	}
	return found
}
