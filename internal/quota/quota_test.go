// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"strings"
	"sync"
	"testing"
)

func TestQuota(t *testing.T) {
	q := New("things", 10)
	if !q.Take("a", 6) || q.Take("a", 5) || !q.Take("a", 4) || !q.Take("b", 3) {
		t.Error("an owner may have 10, whatever others have")
	}
	if u := q.Usage(nil); u != (Usage{"things", 10, 10, 1}) {
		t.Errorf("%+v", u)
	}
	if u := q.Usage(func(owner string) bool { return strings.HasPrefix(owner, "b") }); u.Most != 3 {
		t.Errorf("of b: %+v", u)
	}
	q.Give("a", 4)
	if n, known := q.Used("a"); n != 6 || !known {
		t.Errorf("a has %d, known %t", n, known)
	}
	q.Give("a", 100)
	if n, _ := q.Used("a"); n != 0 {
		t.Errorf("a has %d", n)
	}
	q.Give("c", 1)
	if _, known := q.Used("c"); known {
		t.Error("what is given back by an owner who is unknown makes it known")
	}
	q.Set("c", 20)
	if q.Take("c", 1) || !q.Take("c", -15) {
		t.Error("who has too much may only give back")
	}
	q.Forget("c")
	if _, known := q.Used("c"); known {
		t.Error("c is known")
	}
	if unbounded := New("all", 0); !unbounded.Take("a", 1<<60) || unbounded.Usage(nil).Most != 1<<60 {
		t.Error("0 is no bound")
	}
}

func TestNoMoreThanTheLimitAtOnce(t *testing.T) {
	q := New("things", 100)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 10 {
				q.Take("a", 1)
			}
		})
	}
	all.Wait()
	if u := q.Usage(nil); u.Most != 100 || u.Refused != 400 {
		t.Errorf("%+v", u)
	}
}
