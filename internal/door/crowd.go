// SPDX-License-Identifier: Apache-2.0

package door

import "container/list"

// crowd are connections by owner, each a list of *conn. Its methods are called
// with Door.mu held.
type crowd map[string]*list.List

func (c crowd) add(owner string, conn *conn) {
	if c[owner] == nil {
		c[owner] = list.New()
	}
	conn.place = c[owner].PushBack(conn)
}

func (c crowd) remove(owner string, conn *conn) {
	if c[owner].Remove(conn.place); c[owner].Len() == 0 {
		delete(c, owner)
	}
}

// first is who makes room in a group, which may be nil: who has waited longest
// for its client, of an address if one is given; and how many wait.
func first(group *list.List, address string) (longest *conn, waiting int) {
	if group == nil {
		return nil, 0
	}
	var since int64
	for e := group.Front(); e != nil; e = e.Next() {
		of := e.Value.(*conn)
		at := of.waiting.Load()
		if at == busy || address != "" && of.address != address {
			continue
		}
		if waiting++; longest == nil || at < since {
			longest, since = of, at
		}
	}
	return longest, waiting
}

// firstOfAll is first, or whom the server has worked for the longest where
// nobody waits.
func firstOfAll(group *list.List) *conn {
	if longest, _ := first(group, ""); longest != nil || group == nil {
		return longest
	}
	return group.Front().Value.(*conn)
}

// largest is the group of the owner with most connections.
func (c crowd) largest() (largest *list.List) {
	for _, group := range c {
		if largest == nil || group.Len() > largest.Len() {
			largest = group
		}
	}
	return largest
}

// most is who makes room in the crowd, of an address if one is given: the first of
// the owner of whose connections most wait for their client.
func (c crowd) most(address string) (found *conn) {
	most := 0
	for _, group := range c {
		if longest, waiting := first(group, address); waiting > most {
			found, most = longest, waiting
		}
	}
	return found
}
